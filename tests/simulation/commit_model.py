"""The commit protocol, checked in every state it can reach within bounds.

Two nodes share one shard, seen as one chain of versions. There are no clocks: a node trusts its
lease for ever, which is the worst a paused owner can do. Commands may be lost, duplicated, delayed
without bound and reach a later primary; replies may be lost; a replica that lags may be promoted.

What must hold in every state:

* `LOST_UPDATE` never: an applied commit extends the value that it was based on.
* `FAILED_THEN_APPLIED` and `APPLIED_THEN_FAILED` never: reported failed means without effect.
* `ACKNOWLEDGED_LOST` never, where acknowledgements wait for the replica.

`Rules` says which parts of the protocol are in force; leaving one out must break something. The
protocol itself is in `shared/storage/redis/scripts` and `shared/objects/committer.py`.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

LOST_UPDATE = "a commit was written over a value that it had not seen"
FAILED_THEN_APPLIED = "a commit that was reported failed took effect later"
APPLIED_THEN_FAILED = "a commit that had taken effect was reported failed"
ACKNOWLEDGED_LOST = "an acknowledged commit was lost although the replica had confirmed it"

Mode = Literal[
    "off",  # Owns nothing.
    "opening",  # Has claimed, and waits until the claim is on the replica.
    "serving",
    "sent",  # A commit is on its way.
    "timed out",  # No answer came: the commit is in doubt.
    "applied",  # It was applied, and waits until it is on the replica.
    "conflict",  # The store has another version than ours: it went back in time.
    "refenced",  # Has taken a new token; the answer about the doubtful commit is next.
    "fenced",  # Somebody else has the shard; the answer about the doubtful commit is next.
]
Answer = Literal["ok", "fenced", "conflict"]


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What the store checks, what an owner does, what may go wrong, and how far the search goes."""

    epoch: bool = True  # The store compares the epoch,
    token: bool = True  # the token,
    version: bool = True  # the version a commit is based on,
    commit_id: bool = True  # and knows the last commit again.
    refence: bool = True  # A conflict is answered only after the owner has taken a new token.
    decide: bool = True  # A fenced owner answers by the last commit that the next one found.
    wait: bool = False  # Claims, commits and answers count once the replica has them.
    epoch_from_clock: bool = True  # A new epoch is at least the time, so it rises over a rollback.
    failovers: int = 0
    commits_max: int = 3
    claims_max: int = 3
    in_flight_max: int = 3
    resends_max: int = 2


class Lease(NamedTuple):
    """The shard as a store has it."""

    epoch: int = 0
    token: int = 0
    version: int = 0
    commit_id: int = 0
    value: int = 0
    previous_token: int = 0
    previous_commit_id: int = 0


class Commit(NamedTuple):
    """One write: `value` becomes the shard's if its version is still `base`."""

    base: int
    version: int
    commit_id: int
    value: int


class Message(NamedTuple):
    """A commit on its way to whatever primary it meets."""

    node: int
    epoch: int
    token: int
    commit: Commit


class Node(NamedTuple):
    """A process and what it believes. `commit` is the one that it waits for, or the last."""

    epoch: int = 0
    token: int = 0
    version: int = 0
    value: int = 0
    mode: Mode = "off"
    commit: Commit | None = None


class World(NamedTuple):
    """Everything there is at one moment."""

    primary: Lease
    replica: Lease
    nodes: tuple[Node, Node]
    network: tuple[Message, ...]
    tokens: int  # Handed out so far; also the time that an epoch may be taken from.
    commits: int
    claims: int
    resends: int
    failovers: int  # Still to come.
    failed: tuple[int, ...]  # Commits reported failed, in order of their ids.
    acknowledged: tuple[int, ...]


class Step(NamedTuple):
    """One thing that can happen next, and the property that it breaks, if any."""

    label: str
    world: World
    violation: str | None = None


class Verdict(NamedTuple):
    """What the search found: how many states there are, or the shortest way to break a property."""

    states: int
    violation: str | None
    path: tuple[str, ...]


def check(rules: Rules) -> Verdict:
    """Visit every reachable state, nearest first, and stop at the first that breaks a property."""
    start = World(Lease(), Lease(), (Node(), Node()), (), 0, 0, 0, 0, rules.failovers, (), ())
    came_from: dict[World, tuple[World, str] | None] = {start: None}
    waiting = deque([start])
    visited = 0
    while waiting:
        world = waiting.popleft()
        visited += 1
        for label, following, violation in steps(world, rules):
            if following in came_from:
                continue
            came_from[following] = (world, label)
            waiting.append(following)
            if violation:
                return Verdict(visited, violation, _path(came_from, following))
    return Verdict(visited, None, ())


def steps(world: World, rules: Rules) -> Iterator[Step]:
    """All that can happen next."""
    yield from _replication(world, rules)
    for index, node in enumerate(world.nodes):
        yield from _claim(world, rules, index, node)
        yield from _send(world, rules, index, node)
        yield from _settle(world, rules, index, node)
    for position, message in enumerate(world.network):
        if position and world.network[position - 1] == message:
            continue  # The same command twice in flight: one of them is enough.
        yield from _delivery(world, rules, position, message)


def _replication(world: World, rules: Rules) -> Iterator[Step]:
    """The replica catches up, or is promoted as it is."""
    if world.replica == world.primary:
        return
    yield Step("the replica catches up", world._replace(replica=world.primary))
    if world.failovers:
        lost = rules.wait and world.replica.value < len(world.acknowledged)
        promoted = world._replace(primary=world.replica, failovers=world.failovers - 1)
        yield Step("the lagging replica is promoted", promoted, ACKNOWLEDGED_LOST if lost else None)


def _claim(world: World, rules: Rules, index: int, node: Node) -> Iterator[Step]:
    """A node takes the shard, whoever has it, and opens it."""
    primary = world.primary
    mine = node.token and primary.token == node.token
    if world.claims < rules.claims_max and not mine:
        fenced = _fence(world, rules)
        mode: Mode = "opening" if rules.wait else "serving"
        owner = Node(fenced.primary.epoch, fenced.primary.token, primary.version, primary.value, mode)
        yield Step(f"{_name(index)} claims", _with_node(fenced, index, owner)._replace(claims=world.claims + 1))
    if node.mode == "opening" and world.replica == primary and primary.token == node.token:
        yield Step(f"{_name(index)} opens", _with_node(world, index, node._replace(mode="serving", commit=None)))


def _send(world: World, rules: Rules, index: int, node: Node) -> Iterator[Step]:
    """A node commits, gives up waiting for the answer, and sends the same commit again."""
    room = len(world.network) < rules.in_flight_max
    if node.mode == "serving" and world.commits < rules.commits_max and room:
        commit = Commit(node.version, node.version + 1, world.commits + 1, node.value + 1)
        sent = _on_the_wire(world, index, node, commit)._replace(commits=world.commits + 1)
        yield Step(f"{_name(index)} sends #{commit.commit_id}", sent)
    if node.mode == "sent":
        yield Step(f"{_name(index)} times out", _with_node(world, index, node._replace(mode="timed out")))
    if node.mode == "timed out" and world.resends < rules.resends_max and room and node.commit:
        sent = _on_the_wire(world, index, node, node.commit)._replace(resends=world.resends + 1)
        yield Step(f"{_name(index)} resends #{node.commit.commit_id}", sent)


def _settle(world: World, rules: Rules, index: int, node: Node) -> Iterator[Step]:
    """A node that knows enough about its commit answers, or first makes sure."""
    commit = node.commit
    if commit is None:
        return
    primary, name = world.primary, _name(index)
    replicated = world.replica == primary
    if node.mode == "applied" and replicated and primary.commit_id == commit.commit_id:
        done = _with_node(world, index, _served(node, commit))
        yield Step(f"{name} acknowledges #{commit.commit_id}", _acknowledge(done, commit))
    elif node.mode == "conflict":
        yield _refence(world, rules, index, node)
    elif node.mode == "refenced" and primary.token != node.token:
        yield Step(f"{name} lost the shard meanwhile: #{commit.commit_id} unknown", _with_node(world, index, Node()))
    elif node.mode == "refenced" and (replicated or not rules.wait):
        owner = Node(node.epoch, node.token, primary.version, primary.value, "serving")
        yield _answer(world, index, owner, commit)
    elif node.mode == "fenced" and (not rules.decide or primary.previous_token != node.token):
        yield Step(f"{name} cannot tell: #{commit.commit_id} unknown", _with_node(world, index, Node()))
    elif node.mode == "fenced" and (replicated or not rules.wait):
        yield _answer(world, index, Node(), commit)


def _refence(world: World, rules: Rules, index: int, node: Node) -> Step:
    """Take a new token, so that late copies of our own commands are refused from here on."""
    if world.primary.token != node.token:
        return Step(f"{_name(index)} finds the shard taken", _with_node(world, index, node._replace(mode="fenced")))
    fenced = _fence(world, rules)
    lease = fenced.primary
    owner = Node(lease.epoch, lease.token, lease.version, lease.value, "refenced", node.commit)
    return Step(f"{_name(index)} takes a new token", _with_node(fenced, index, owner))


def _answer(world: World, index: int, after: Node, commit: Commit) -> Step:
    """Answer by what the fence found to be the last commit of our former token."""
    settled = _with_node(world, index, after)
    if world.primary.previous_commit_id == commit.commit_id:
        return Step(f"{_name(index)} answers #{commit.commit_id} done", settled)
    return Step(f"{_name(index)} answers #{commit.commit_id} failed", _report_failed(settled, commit))


def _delivery(world: World, rules: Rules, position: int, message: Message) -> Iterator[Step]:
    """A command runs or is lost; if it runs, its reply comes back or is lost."""
    network = world.network[:position] + world.network[position + 1 :]
    answer, primary, violation = _run(world, rules, message)
    number = f"#{message.commit.commit_id}"
    ran = world._replace(primary=primary, network=network)
    yield Step(f"{number} runs: {answer}, the reply is lost", ran, violation)
    yield Step(f"{number} is lost", world._replace(network=network))
    node = world.nodes[message.node]
    awaited = node.mode == "sent" and node.commit is not None and node.commit.commit_id == message.commit.commit_id
    if awaited and node.token == message.token:
        replied, misreported = _reply(ran, rules, message, answer)
        yield Step(f"{number} runs: {answer}", replied, violation or misreported)


def _run(world: World, rules: Rules, message: Message) -> tuple[Answer, Lease, str | None]:
    """The commit script: its answer, what is stored then, and the property that this breaks."""
    primary, commit = world.primary, message.commit
    if (rules.epoch and primary.epoch != message.epoch) or (rules.token and primary.token != message.token):
        return "fenced", primary, None
    repeated = primary.commit_id == commit.commit_id
    if rules.commit_id and repeated:
        return "ok", primary, None
    if rules.version and primary.version != commit.base:
        return "conflict", primary, None
    violation = None
    if not repeated and commit.value != primary.value + 1:
        violation = LOST_UPDATE
    if commit.commit_id in world.failed:
        violation = FAILED_THEN_APPLIED
    stored = primary._replace(version=commit.version, commit_id=commit.commit_id, value=commit.value)
    return "ok", stored, violation


def _reply(ran: World, rules: Rules, message: Message, answer: Answer) -> tuple[World, str | None]:
    """What the sender does with the answer, and the property that this breaks."""
    index, commit = message.node, message.commit
    node = ran.nodes[index]
    if answer == "ok" and rules.wait:
        return _with_node(ran, index, node._replace(mode="applied")), None
    if answer == "ok":
        return _acknowledge(_with_node(ran, index, _served(node, commit)), commit), None
    if answer == "fenced":
        return _with_node(ran, index, node._replace(mode="fenced")), None
    if rules.refence:
        return _with_node(ran, index, node._replace(mode="conflict")), None
    applied = ran.primary.commit_id == commit.commit_id
    failed = _report_failed(_with_node(ran, index, Node()), commit)
    return failed, APPLIED_THEN_FAILED if applied else None


def _fence(world: World, rules: Rules) -> World:
    """A new epoch and token; the lease keeps the last commit of the holder before."""
    lease = world.primary
    epoch = max(lease.epoch + 1, world.tokens + 1) if rules.epoch_from_clock else lease.epoch + 1
    fenced = lease._replace(
        epoch=epoch, token=world.tokens + 1, previous_token=lease.token, previous_commit_id=lease.commit_id
    )
    return world._replace(primary=fenced, tokens=world.tokens + 1)


def _on_the_wire(world: World, index: int, node: Node, commit: Commit) -> World:
    message = Message(index, node.epoch, node.token, commit)
    waiting = _with_node(world, index, node._replace(mode="sent", commit=commit))
    return waiting._replace(network=tuple(sorted((*world.network, message))))


def _served(node: Node, commit: Commit) -> Node:
    return Node(node.epoch, node.token, commit.version, commit.value, "serving")


def _acknowledge(world: World, commit: Commit) -> World:
    return world._replace(acknowledged=(*world.acknowledged, commit.commit_id))


def _report_failed(world: World, commit: Commit) -> World:
    return world._replace(failed=tuple(sorted({*world.failed, commit.commit_id})))


def _with_node(world: World, index: int, node: Node) -> World:
    first, second = world.nodes
    return world._replace(nodes=(first, node) if index else (node, second))


def _name(index: int) -> str:
    return "AB"[index]


def _path(came_from: dict[World, tuple[World, str] | None], world: World) -> tuple[str, ...]:
    labels = []
    while step := came_from[world]:
        world, label = step
        labels.append(label)
    return tuple(reversed(labels))
