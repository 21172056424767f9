"""How many sessions a principal may have, and which of them makes room for the next: pure, with every tie broken."""

from collections.abc import Sequence
from typing import NamedTuple

from services.sessions.policy import Limits


class Candidate(NamedTuple):
    """A session that could make room."""

    session_id: str
    client: str
    created_ms: int
    used_ms: int


class Room(NamedTuple):
    """What the next session needs: these sessions ended, in this order; or, where none may be, to be refused.

    `refused_by`: those of which one would have to end; `of_client`: since its client has as many as it may.
    """

    evict: tuple[str, ...] = ()
    refused_by: tuple[str, ...] = ()
    of_client: bool = False


def room_for(client: str, live: Sequence[Candidate], limits: Limits) -> Room:
    """Room for one more session of `client` beside the live ones."""
    same = [candidate for candidate in live if candidate.client == client]
    own_excess = len(same) + 1 - limits.per_client.get(client, len(same) + 1)
    total_excess = len(live) + 1 - limits.total
    if max(own_excess, total_excess) <= 0:
        return Room()
    if limits.on_limit == "reject":
        held = _in_order(same if own_excess > 0 else live, client, limits)
        return Room(refused_by=tuple(candidate.session_id for candidate in held), of_client=own_excess > 0)
    going = _in_order(same, client, limits)[: max(own_excess, 0)]
    rest = [candidate for candidate in live if candidate not in going]
    going += _in_order(rest, client, limits)[: max(total_excess - len(going), 0)]
    return Room(evict=tuple(candidate.session_id for candidate in going))


def _in_order(candidates: Sequence[Candidate], client: str, limits: Limits) -> list[Candidate]:
    """Who goes first: of the same client before others; then by the policy; then who began first; then by id."""

    def place(candidate: Candidate) -> tuple[bool, int, int, str]:
        used_ms = candidate.used_ms if limits.on_limit == "evict_lru" else 0
        return candidate.client != client, used_ms, candidate.created_ms, candidate.session_id

    return sorted(candidates, key=place)
