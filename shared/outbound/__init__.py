"""Calls to addresses that others choose: what may be dialled, what is sent and taken, and signed webhooks."""
