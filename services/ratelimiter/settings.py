"""What an operator may set about the limiter: all that is set about a node, and nothing of its own."""

from shared.settings import NodeSettings, Port

SERVICE = "ratelimiter"
PREFIX = "rl"
"""The limiter's prefix in the store; part of stored keys, never to change."""


class RatelimiterSettings(NodeSettings, frozen=True, kw_only=True):
    """One limiter node."""

    port: Port = 7101
    admin_port: Port = 7201
