"""When a session ends by itself: unused for too long, or too old. Pure.

Both clocks of a session begin when its user authenticates, and only an authentication begins them anew; use begins
the idle one anew, and never moves the absolute one. A policy that is lowered counts for sessions that are there, one
that is raised does not.

Source: NIST SP 800-63B-4 5.2 (either time-out ends the session; activity and reauthentication reset them).
"""

from typing import Literal

import msgspec

from services.sessions.bounds import IMPERSONATION_MS_MAX
from services.sessions.policy import Policy

TimeOut = Literal["idle_timeout", "absolute_timeout"]


class Lifetime(msgspec.Struct, frozen=True):
    """From when a session counts its time, and how much it was given."""

    began_ms: int
    absolute_ms: int
    idle_ms: int
    """0: none."""


def lifetime_from(began_ms: int, policy: Policy, *, impersonated: bool) -> Lifetime:
    """What a session gets that begins now, or whose user authenticates now."""
    return Lifetime(began_ms, *_time_outs(policy, impersonated))


def lifetime_under(lifetime: Lifetime, policy: Policy, impersonated: bool) -> Lifetime:  # noqa: FBT001  # Read as "of".
    """What is left of it under the policy of today: the shorter of both."""
    absolute_ms, idle_ms = _time_outs(policy, impersonated)
    if absolute_ms >= lifetime.absolute_ms and (idle_ms == 0 or 0 < lifetime.idle_ms <= idle_ms):
        return lifetime  # As it nearly always is.
    idle_ms = min(lifetime.idle_ms or idle_ms, idle_ms or lifetime.idle_ms)
    return Lifetime(lifetime.began_ms, min(lifetime.absolute_ms, absolute_ms), idle_ms)


def _time_outs(policy: Policy, impersonated: bool) -> tuple[int, int]:  # noqa: FBT001  # As above.
    absolute_ms, idle_ms = policy.time_outs
    return min(absolute_ms, IMPERSONATION_MS_MAX) if impersonated else absolute_ms, idle_ms


def ends(lifetime: Lifetime, used_ms: int) -> tuple[int, TimeOut]:
    """When it ends if it is not used after `used_ms`, and by which time-out. From that moment on it does not count."""
    absolute_ms = lifetime.began_ms + lifetime.absolute_ms
    idle_ms = max(used_ms, lifetime.began_ms) + lifetime.idle_ms
    if lifetime.idle_ms and idle_ms < absolute_ms:
        return idle_ms, "idle_timeout"
    return absolute_ms, "absolute_timeout"
