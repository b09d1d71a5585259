"""Everything on one machine: an embedded Valkey, the three services, and a supervisor that keeps them alive."""
