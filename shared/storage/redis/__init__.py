"""The store on a Redis-protocol server: one Lua script an operation, every write fenced."""
