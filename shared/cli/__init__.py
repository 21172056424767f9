"""The `tenure` command: run everything, serve one service, make tenants and keys, examine the set-up."""
