"""gRPC in, rpc out: the entrypoint of remote command lines on port 8081."""
