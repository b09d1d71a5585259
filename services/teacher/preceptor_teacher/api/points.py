"""The named points of one call to a provider, at which a test ends the process."""

WRITTEN = "call written"  # before it is sent
SENT = "reply read"  # the provider has been paid, and nobody has written it down
KEPT = "reply written"

POINTS = (WRITTEN, SENT, KEPT)
