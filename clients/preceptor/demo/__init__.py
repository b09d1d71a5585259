"""`preceptor demo`: the bundled pair through real services on this machine, with its controls beside it."""
