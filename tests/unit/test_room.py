"""Places that are taken for so long at most, against a list of who took one and when."""

from hypothesis import given
from hypothesis import strategies as st

from shared.objects.room import Room

STEPS = st.lists(st.tuples(st.sampled_from(["take", "give back", "wait"]), st.integers(0, 9)), max_size=60)


@given(steps=STEPS, most=st.integers(1, 4))
def test_a_place_is_free_when_it_is_given_back_or_held_too_long(steps, most):
    """Who was given up before is no hindrance, and the next to be given up is known."""
    room: Room[int] = Room(most, patience_ms=10)
    now_ms = 0
    held: dict[int, int] = {}
    for what, number in steps:
        if what == "wait":
            now_ms += number
        held = {holder: since_ms for holder, since_ms in held.items() if now_ms < since_ms + 10}
        assert (len(held), most - len(held)) == (room.held(now_ms), room.free(now_ms))
        if what == "give back":
            assert (held.pop(number, None) is not None) == room.give_back(number)
        elif what == "take" and number not in held and len(held) < most:
            room.take(number, now_ms)
            held[number] = now_ms
        assert min((since_ms + 10 for since_ms in held.values()), default=None) == room.next_ms()
