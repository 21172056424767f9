"""The only room that knows keys, records and Redis."""
