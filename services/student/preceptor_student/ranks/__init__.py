"""One student over several processes: rank 0 leads and serves, the others follow its commands. Weights are sharded by FSDP2."""
