"""Signed webhooks: who is told of what happens, by which secret they know it, and what came of each message."""
