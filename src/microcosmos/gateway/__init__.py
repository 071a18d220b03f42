"""HTTP in, rpc out: the public entrypoint on port 8080."""
