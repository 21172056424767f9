"""The counter's promises, on a whole node in virtual time: a minute passes at once."""

import pytest

from examples.counter.objects import Counter, CounterFullError, Reading
from shared.testing.kit import Kit, run_with_kit


def test_it_adds_up_to_100_and_not_beyond() -> None:
    """What would pass the bound is refused, and nothing of it is kept."""

    async def scenario(kit: Kit) -> None:
        anna = kit.at(Counter, "dev", "anna")
        await anna.add(60)
        with pytest.raises(CounterFullError):
            await anna.add(60)
        assert (await anna.read()).total == 60

    run_with_kit(scenario, kinds=[Counter])


def test_a_minute_after_the_first_addition_it_is_0_again() -> None:
    """Later additions do not move the alarm, and the death of a node does not lose it."""

    async def scenario(kit: Kit) -> None:
        anna = kit.at(Counter, "dev", "anna")
        first = await anna.add(1)
        await kit.advance(50_000)
        second = await anna.add(1)
        await kit.kill()
        await kit.advance(15_000)
        assert second.resets_at_ms == first.resets_at_ms
        assert await anna.read() == Reading(total=0, resets_at_ms=None)

    run_with_kit(scenario, kinds=[Counter])
