"""Who may own a shard, one rule a function. Every store keeps them; a broken script breaks at least one."""

import itertools

from shared.storage.interface import Claimed, ClaimOrder, Fence, Loaded, LoadOrder, Status, Store
from tests.storage.bench import LONG_MS, Bench, Rule, section, write

OVER_MS = -1
"""A time to live that is over at once."""


FIRST, SECOND, THIRD = (b"sixteen letters " + count for count in (b"1", b"2", b"3"))
"""Tokens of one process, in the order of its claims."""


async def claim(
    store: Store,
    token: bytes,
    *,
    known: int = 0,
    refence: bool = False,
    lock: str = "",
    ttl_ms: int = LONG_MS,
    shard: int = 0,
) -> Claimed:
    """Ask for one shard; the node is named like the token."""
    order = ClaimOrder(shard=shard, known_epoch=known, refence=refence)
    claims = await store.claim([order], token=token, node=token.decode(), lock_id=lock, ttl_ms=ttl_ms)
    (lease,) = claims.leases
    return lease


async def own(store: Store, token: bytes = b"one", *, ttl_ms: int = LONG_MS, shard: int = 0) -> Fence:
    """Take a shard that is free, and return the proof."""
    lease = await claim(store, token, ttl_ms=ttl_ms, shard=shard)
    assert lease.granted
    return Fence(lease.epoch, token)


async def a_free_shard_is_granted(bench: Bench) -> None:
    """A shard that nobody ever held is granted, and starts at seq 0 with no predecessor."""
    claims = await bench.store.claim([ClaimOrder(shard=2)], token=b"one", node="n", lock_id="", ttl_ms=5_000)
    (lease,) = claims.leases
    assert (True, 0, "n", b"", b"") == (
        lease.granted,
        lease.seq,
        lease.node,
        lease.previous_token,
        lease.previous_commit_id,
    )
    assert claims.now_ms + 5_000 == lease.expires_ms
    assert claims.now_ms <= lease.epoch


async def a_valid_lease_of_another_is_refused(bench: Bench) -> None:
    """A claim on a held shard writes nothing and tells who holds it, and until when."""
    first = await claim(bench.store, b"one")
    before = await bench.dump()
    second = await claim(bench.store, b"two")
    assert (False, "one", first.epoch, first.expires_ms) == (
        second.granted,
        second.node,
        second.epoch,
        second.expires_ms,
    )
    assert before == await bench.dump()


async def an_expired_lease_is_granted(bench: Bench) -> None:
    """Past its end a lease goes to whoever asks, under a higher epoch; seq goes on, the predecessor is told."""
    fence = await own(bench.store, b"one")
    await bench.store.commit([section(fence, 0, b"c1")], ttl_ms=OVER_MS, timeout_ms=1_000)
    lease = await claim(bench.store, b"two")
    assert lease.granted
    assert lease.epoch > fence.epoch
    assert (1, b"one", b"c1") == (lease.seq, lease.previous_token, lease.previous_commit_id)


async def an_epoch_is_beyond_the_newest_that_the_claimer_knows(bench: Bench) -> None:
    """Also where the store went back in time, and its clock is behind that of the one before."""
    first = await claim(bench.store, b"one")
    known = first.epoch + 3_600_000
    second = await claim(bench.store, b"two", known=known, ttl_ms=LONG_MS, lock="")
    assert (False, first.epoch) == (second.granted, second.epoch)
    third = await claim(bench.store, b"three", known=known, shard=1)
    assert (True, known + 1) == (third.granted, third.epoch)


async def the_same_lock_may_claim_before_the_end(bench: Bench) -> None:
    """Who holds the file lock that the lease names may claim at once; another lock, or none, may not."""
    await claim(bench.store, b"one", lock="disk/1")
    assert not (await claim(bench.store, b"two", lock="disk/2")).granted
    assert not (await claim(bench.store, b"two", lock="")).granted
    assert (await claim(bench.store, b"two", lock="disk/1")).granted


async def no_lock_proves_nothing(bench: Bench) -> None:
    """Two claimers without a lock do not hold the same lock."""
    await claim(bench.store, b"one", lock="")
    assert not (await claim(bench.store, b"two", lock="")).granted


async def a_process_claims_over_itself(bench: Bench) -> None:
    """A claim whose reply was lost is no other owner's: the next one is granted at once, under a higher epoch."""
    for refence in (False, True):
        for earlier, later in ((FIRST, SECOND), (SECOND, THIRD)):
            first = await claim(bench.store, earlier, shard=refence)
            again = await claim(bench.store, later, shard=refence, refence=refence)
            assert again.granted
            assert again.epoch > first.epoch


async def an_older_claim_is_refused_for_ever(bench: Bench) -> None:
    """A late copy of a claim takes nothing from a newer one of its process, be that expired, released or locked."""
    fence = await own(bench.store, SECOND, ttl_ms=OVER_MS)
    before = await bench.dump()
    for token in (FIRST, SECOND):
        assert not (await claim(bench.store, token)).granted
        assert not (await claim(bench.store, token, refence=True)).granted
    assert before == await bench.dump()
    await bench.store.release([(0, fence)])
    assert not (await claim(bench.store, FIRST)).granted
    await claim(bench.store, SECOND, lock="disk/1", shard=1)
    assert not (await claim(bench.store, FIRST, lock="disk/1", shard=1)).granted


async def tokens_count_in_bytes(bench: Bench) -> None:
    """Whatever bytes a token has, the order of claims is that of the bytes, and a shorter one comes first."""
    process = "\0é".encode().ljust(16, b"\x80")
    counts = [b"", b"\x00\xff", b"\x7f", b"\x80\x00", b"\xff"]
    for shard, (earlier, later) in enumerate(itertools.pairwise(counts)):
        for count, granted in ((earlier, True), (later, True), (earlier, False)):
            claims = await bench.store.claim(
                [ClaimOrder(shard=shard)], token=process + count, node="n", lock_id="", ttl_ms=LONG_MS
            )
            assert granted == claims.leases[0].granted, (earlier, later)


async def a_claim_without_an_answer_is_passed_over(bench: Bench) -> None:
    """The next one tells who was before the newest that was answered: its process, or another that came between."""
    store = bench.store
    fence = await own(store, FIRST)
    await store.commit([section(fence, 0, b"c1")], ttl_ms=OVER_MS, timeout_ms=1_000)
    await claim(store, SECOND, known=fence.epoch, ttl_ms=OVER_MS)
    lease = await claim(store, THIRD, known=fence.epoch, ttl_ms=OVER_MS)
    assert (True, FIRST, b"c1") == (lease.granted, lease.previous_token, lease.previous_commit_id)
    other = await own(store, b"two", ttl_ms=OVER_MS)
    await store.commit([section(other, 1, b"c2")], ttl_ms=OVER_MS, timeout_ms=1_000)
    await claim(store, THIRD, known=lease.epoch)  # A copy of one that was answered before.
    last = await claim(store, THIRD + b"+", known=lease.epoch)
    assert (True, b"two", b"c2") == (last.granted, last.previous_token, last.previous_commit_id)


async def a_refence_tells_the_last_commit(bench: Bench) -> None:
    """A new token of the owner shuts the old one out, and tells the last commit under it."""
    fence = await own(bench.store, FIRST)
    await bench.store.commit([section(fence, 0, b"c1")], ttl_ms=LONG_MS, timeout_ms=1_000)
    lease = await claim(bench.store, SECOND, known=fence.epoch, refence=True)
    assert lease.granted
    assert (1, FIRST, b"c1") == (lease.seq, lease.previous_token, lease.previous_commit_id)
    late = await bench.store.commit([section(fence, 1, b"c2")], ttl_ms=LONG_MS, timeout_ms=1_000)
    assert Status.FENCED == late.replies[0].status
    assert (FIRST, b"c1") == (late.replies[0].previous_token, late.replies[0].previous_commit_id)


async def a_refence_of_what_another_has_is_refused(bench: Bench) -> None:
    """A node that believes it holds a shard does not take it, not even expired or free: it has to claim afresh."""
    await own(bench.store, b"two", ttl_ms=OVER_MS)
    before = await bench.dump()
    for shard in range(2):
        assert not (await claim(bench.store, FIRST, refence=True, shard=shard)).granted
    assert before == await bench.dump()


async def claims_of_one_call_stand_alone(bench: Bench) -> None:
    """A refused shard does not keep the others from being granted."""
    await own(bench.store, b"one", shard=1)
    orders = [ClaimOrder(shard=number) for number in range(3)]
    claims = await bench.store.claim(orders, token=b"two", node="n", lock_id="", ttl_ms=LONG_MS)
    assert [True, False, True] == [lease.granted for lease in claims.leases]


async def a_late_renewal_counts(bench: Bench) -> None:
    """An expired lease that nobody claimed is extended, and then holds against others."""
    fence = await own(bench.store, b"one", ttl_ms=OVER_MS)
    assert [0] == list((await bench.store.renew([(0, fence)], ttl_ms=LONG_MS)).seqs)
    assert not (await claim(bench.store, b"two")).granted


async def a_renewal_after_a_claim_is_refused(bench: Bench) -> None:
    """Once another has claimed, renewing answers -1 and writes nothing; other leases are renewed all the same."""
    old = await own(bench.store, b"one", ttl_ms=OVER_MS)
    new = await own(bench.store, b"two", ttl_ms=OVER_MS)
    other = await own(bench.store, b"one", ttl_ms=OVER_MS, shard=1)
    before = await bench.dump()
    mixed = [(0, old), (0, Fence(new.epoch, b"one")), (0, Fence(old.epoch, b"two")), (1, other)]
    assert [-1, -1, -1, 0] == list((await bench.store.renew(mixed, ttl_ms=LONG_MS)).seqs)
    assert before.shards[0] == (await bench.dump()).shards[0]
    assert not (await claim(bench.store, b"three", shard=1)).granted


async def leases_that_were_claimed_together_and_apart_are_renewed_at_once(bench: Bench) -> None:
    """In any order; one that is not ours among those of one fence is refused alone."""
    orders = [ClaimOrder(shard=shard, known_epoch=0) for shard in (0, 1, 3)]
    claims = await bench.store.claim(orders, token=b"one", node="n", lock_id="", ttl_ms=LONG_MS)
    first, second, last = (Fence(lease.epoch, b"one") for lease in claims.leases)
    between = await own(bench.store, b"two", shard=2)
    leases = [(0, first), (1, second), (2, between), (3, last)]
    assert [0, 0, 0, 0] == list((await bench.store.renew(leases, ttl_ms=LONG_MS)).seqs)
    foreign = [(0, first), (2, first), (1, second), (3, last)]
    assert [0, -1, 0, 0] == list((await bench.store.renew(foreign, ttl_ms=LONG_MS)).seqs)


async def a_released_shard_is_free(bench: Bench) -> None:
    """What its owner released is granted before it expires, and names the releaser as predecessor."""
    fence = await own(bench.store, b"one")
    await bench.store.release([(0, fence)])
    lease = await claim(bench.store, b"two")
    assert (True, b"one") == (lease.granted, lease.previous_token)


async def only_the_owner_releases(bench: Bench) -> None:
    """Releasing under another token or epoch writes nothing."""
    fence = await own(bench.store, b"one")
    before = await bench.dump()
    await bench.store.release([(0, Fence(fence.epoch, b"two")), (0, Fence(fence.epoch - 1, b"one")), (1, fence)])
    assert before == await bench.dump()


async def a_load_is_fenced(bench: Bench) -> None:
    """Only the owner reads an object; it gets all fields and the seq, or nothing where there is no object."""
    fence = await own(bench.store, b"one")
    await bench.store.commit([section(fence, 0, b"c1", [write(a=b"1", b=b"2")])], ttl_ms=LONG_MS, timeout_ms=1_000)
    wrong = [Fence(fence.epoch, b"two"), Fence(fence.epoch - 1, b"one")]
    orders = [LoadOrder(0, owner, b"object") for owner in (fence, *wrong)]
    loads = await bench.store.load([*orders, LoadOrder(0, fence, b"absent"), LoadOrder(1, fence, b"object")])
    assert [
        Loaded(1, {b"a": b"1", b"b": b"2"}),
        Loaded(-1, {}),
        Loaded(-1, {}),
        Loaded(1, {}),
        Loaded(-1, {}),
    ] == list(loads.objects)


RULES: tuple[Rule, ...] = (
    a_free_shard_is_granted,
    a_valid_lease_of_another_is_refused,
    an_expired_lease_is_granted,
    an_epoch_is_beyond_the_newest_that_the_claimer_knows,
    the_same_lock_may_claim_before_the_end,
    no_lock_proves_nothing,
    a_process_claims_over_itself,
    an_older_claim_is_refused_for_ever,
    tokens_count_in_bytes,
    a_claim_without_an_answer_is_passed_over,
    a_refence_tells_the_last_commit,
    a_refence_of_what_another_has_is_refused,
    claims_of_one_call_stand_alone,
    a_late_renewal_counts,
    a_renewal_after_a_claim_is_refused,
    leases_that_were_claimed_together_and_apart_are_renewed_at_once,
    a_released_shard_is_free,
    only_the_owner_releases,
    a_load_is_fenced,
)
