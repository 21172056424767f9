"""The `tenure` command: run everything, serve one service, keep tenants and keys, examine the set-up."""
