"""What an operator does to an object, as turns of the object itself.

They take their place in its mailbox, under its owner, and what they write is committed as any turn's is: nothing
is ever written under a live owner's feet. The name of each has a colon in it, so no method of an author is taken
for it, and metrics and traces tell it apart.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from shared.objects.errors import CommitFailedError, OutcomeUnknownError
from shared.objects.messages import Message
from shared.objects.native import NativeState
from shared.storage.codec import AlarmRecord

if TYPE_CHECKING:
    from shared.objects.activation import Activation
    from shared.objects.handler import DurableObject

F = TypeVar("F", bound=Callable[..., Any])

Rearmed = Literal["absent", "armed", "done"]
Settled = Literal["absent", "alive", "unreadable", "done"]
"""What became of a dead letter: there is no such message, it is not dead, another release wrote it, or it is done."""


def _operation(function: F) -> F:
    function.__name__ = f"operator:{function.__name__}"
    return function


@_operation
async def evict(instance: "DurableObject") -> CommitFailedError | OutcomeUnknownError | None:
    """The object leaves memory once the store has everything of it.

    Where the store does not take it, the error is the reply: one that is raised would cost a native kind its memory.
    """
    activation = _activation(instance)
    try:
        await activation.host.store_within_turn(activation)
    except (CommitFailedError, OutcomeUnknownError) as exc:
        return exc
    if not activation.closed:
        activation.host.residents.dismiss(activation)
    return None


@_operation
def cancel_alarm(instance: "DurableObject", name: str) -> bool:
    """Disarm an alarm; say whether it was armed. A dead letter of its name stays."""
    state = _activation(instance).state
    if isinstance(state, NativeState) or state.alarm(name) is None:
        return False
    dead = state.dead_alarm(name)
    if dead is None:
        state.set_alarm(name, None)
    else:
        state.bury_alarm(name, *dead)
    return True


@_operation
def rearm_alarm(instance: "DurableObject", name: str, at_ms: int) -> Rearmed:
    """Arm a dead letter anew, as if it had never failed; one of its name that is armed already stays as it is."""
    state = _activation(instance).state
    if isinstance(state, NativeState) or state.dead_alarm(name) is None:
        return "absent"
    if state.alarm(name) is not None:
        return "armed"
    state.end_dead_alarm(name, AlarmRecord(due_ms=at_ms, serial=0))
    return "done"


@_operation
def drop_alarm(instance: "DurableObject", name: str) -> bool:
    """Forget a dead letter, and nothing else; say whether there was one."""
    state = _activation(instance).state
    if isinstance(state, NativeState) or state.dead_alarm(name) is None:
        return False
    state.end_dead_alarm(name, state.alarm(name))
    return True


@_operation
async def resend_message(instance: "DurableObject", message_id: bytes, new_id: bytes) -> Settled:
    """Send a dead letter again, as a new message behind all that the object has sent since."""
    activation = _activation(instance)
    stored = await _sent(activation, message_id)
    if stored is None:
        return "absent"
    letter = Message.readable(stored)
    if letter is None:
        return "unreadable"
    if not letter.dead_ms:
        return "alive"
    clock, serials = activation.host.store_clock, activation.host.message_serials
    epoch, serial = activation.shard.fence.epoch, next(serials)
    again = letter.anew(epoch=epoch, serial=serial, now_ms=clock.now_ms(), upper_ms=clock.upper_ms())
    instance.storage.withdraw(message_id)
    instance.storage.post(new_id, again.encode())
    return "done"


@_operation
async def drop_message(instance: "DurableObject", message_id: bytes) -> Settled:
    """Forget a dead letter, or a message that nobody here can read and so nobody delivers."""
    activation = _activation(instance)
    stored = await _sent(activation, message_id)
    if stored is None:
        return "absent"
    letter = Message.readable(stored)
    if letter is not None and not letter.dead_ms:
        return "alive"
    instance.storage.withdraw(message_id)
    return "done"


OPERATIONS = (evict, cancel_alarm, rearm_alarm, drop_alarm, resend_message, drop_message)


async def _sent(activation: "Activation", message_id: bytes) -> bytes | None:
    """A message as the store has it, with what earlier turns of the object did to it.

    One that is dead, or that nobody here can read, stays as it is until this turn has ended: the courier does not
    touch it any more, and turns of one object do not overlap. If the store goes back in time meanwhile, the turn's
    commit fails.
    """
    if isinstance(activation.state, NativeState):
        return None
    await activation.host.store_within_turn(activation)
    sent = await activation.host.reads.outbox(activation)
    return next((each.message for each in sent if each.message_id == message_id), None)


def _activation(instance: "DurableObject") -> "Activation":
    return instance._activation  # noqa: SLF001 - these turns are the host's own, and change what authors cannot.
