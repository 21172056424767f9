"""Broken variants of the scripts, each of which a rule has to catch: the rules are worth what they detect."""

import hashlib
from typing import NamedTuple

import pytest

from shared.storage.redis.client import Script
from shared.storage.redis.store import RedisStore
from shared.testing.valkey import Valkey
from tests.storage import commit_rules, document_rules, full_rules, lease_rules
from tests.storage.bench import Rule, on_valkey


class Mutant(NamedTuple):
    """One change to one script, and the rule that it breaks."""

    name: str
    script: str
    old: str
    new: str
    rule: Rule


MUTANTS = (
    Mutant(
        "commit_without_token",
        "commit",
        "lease[1] ~= epoch or lease[2] ~= token",
        "lease[1] ~= epoch",
        commit_rules.another_token_is_fenced,
    ),
    Mutant(
        "commit_without_epoch",
        "commit",
        "lease[1] ~= epoch or lease[2] ~= token",
        "lease[2] ~= token",
        commit_rules.another_epoch_is_fenced,
    ),
    Mutant(
        "commit_without_fence",
        "commit",
        "lease[1] ~= epoch or lease[2] ~= token",
        "false",
        commit_rules.a_former_owner_is_fenced,
    ),
    Mutant(
        "commit_without_seq",
        "commit",
        "elseif stored ~= seq then",
        "elseif false then",
        commit_rules.another_seq_is_a_conflict,
    ),
    Mutant(
        "commit_without_commit_id",
        "commit",
        "elseif lease[4] == cid then",
        "elseif false then",
        commit_rules.the_same_commit_is_applied_once,
    ),
    Mutant(
        "commit_applied_again",
        "commit",
        "redis.call('HSET', key, 'expires', expires)",
        "apply(section)",
        commit_rules.the_same_commit_is_applied_once,
    ),
    Mutant(
        "commit_that_lets_the_lease_lapse",
        "commit",
        "'seq', stored, 'cid', cid, 'expires', expires)",
        "'seq', stored, 'cid', cid)",
        commit_rules.a_commit_extends_the_lease,
    ),
    Mutant(
        "commit_that_stops_at_a_fence",
        "commit",
        "    status = 2\n",
        "    break\n",
        commit_rules.sections_stand_alone,
    ),
    Mutant(
        "commit_with_a_part_only",
        "commit",
        "redis.call(command, key, unpack(args))",
        "redis.call(command, key, unpack(args)) a = last",
        commit_rules.large_writes_arrive_whole,
    ),
    Mutant(
        "sweep_without_look",
        "commit",
        "gone = score and tonumber(score) <= expiry",
        "gone = true",
        commit_rules.a_sweep_spares_what_has_not_expired,
    ),
    Mutant(
        "native_without_expiry",
        "commit",
        "ARGV[a + 3], 'PXAT', expiry)",
        "ARGV[a + 3])",
        commit_rules.a_native_state_is_absent_past_its_expiry,
    ),
    Mutant(
        "native_that_is_never_removed",
        "commit",
        "    redis.call('DEL', key)\n  elseif expiry == '0'",
        "    do end\n  elseif expiry == '0'",
        commit_rules.a_native_state_is_replaced_whole,
    ),
    Mutant(
        "load_without_guard",
        "load",
        "lease[1] == ARGV[3 * i - 2] and lease[2] == ARGV[3 * i - 1]",
        "lease[3]",
        lease_rules.a_load_is_fenced,
    ),
    Mutant(
        "claim_of_valid_leases",
        "claim",
        "free or expires <= now or",
        "true or",
        lease_rules.a_valid_lease_of_another_is_refused,
    ),
    Mutant(
        "claim_that_knows_no_end",
        "claim",
        "free or expires <= now or",
        "free or",
        lease_rules.an_expired_lease_is_granted,
    ),
    Mutant(
        "claim_by_no_lock",
        "claim",
        "(lock ~= '' and lease[5] == lock)",
        "lease[5] == lock",
        lease_rules.no_lock_proves_nothing,
    ),
    Mutant(
        "refence_by_anybody",
        "claim",
        "granted = old == held",
        "granted = true",
        lease_rules.a_refence_under_another_token_is_refused,
    ),
    Mutant(
        "claim_at_the_same_epoch",
        "claim",
        "epoch = math.max(epoch + 1, now)",
        "epoch = math.max(epoch, 1)",
        lease_rules.an_expired_lease_is_granted,
    ),
    Mutant(
        "claim_that_forgets_the_last_commit",
        "claim",
        "now + ttl, old, lease[7] or '', node",
        "now + ttl, old, '', node",
        lease_rules.a_refence_tells_the_last_commit,
    ),
    Mutant(
        "renewal_without_guard",
        "renew",
        "lease[1] == ARGV[2 * i] and lease[2] == ARGV[2 * i + 1]",
        "lease[3]",
        lease_rules.a_renewal_after_a_claim_is_refused,
    ),
    Mutant(
        "release_without_guard",
        "release",
        "lease[1] == ARGV[3 * i - 2] and lease[2] == ARGV[3 * i - 1]",
        "true",
        lease_rules.only_the_owner_releases,
    ),
    Mutant(
        "document_without_comparison",
        "document_put",
        "expected >= 0 and expected ~= seen",
        "false",
        document_rules.a_document_is_written_if_unchanged,
    ),
    Mutant(
        "full_commit_that_grows",
        "commit_when_full",
        "elseif full and section.needs_room then",
        "elseif false then",
        full_rules.a_full_store_takes_no_new_state,
    ),
    Mutant(
        "full_commit_that_looks_at_one_object",
        "commit_when_full",
        "sections[s].needs_room = true end",
        "sections[1].needs_room = true end",
        full_rules.sections_of_a_full_store_stand_alone,
    ),
    Mutant(
        "documents_that_trust_the_revision",
        "documents_since",
        "newest < since",
        "false",
        document_rules.a_store_gone_back_in_time_starts_over,
    ),
)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_rule_detects_the_mutant(mutant: Mutant, server: Valkey) -> None:
    """The rule holds with the script as it is and breaks with the changed one."""

    def change(store: RedisStore) -> None:
        script: Script = getattr(store, f"_{mutant.script}")
        old, new = mutant.old.encode(), mutant.new.encode()
        assert 1 == script.text.count(old), "the script no longer reads as the mutant expects"
        script.text = script.text.replace(old, new)
        script.sha = hashlib.sha1(script.text, usedforsecurity=False).hexdigest().encode()

    on_valkey(mutant.rule, server.url)
    with pytest.raises(AssertionError):
        on_valkey(mutant.rule, server.url, change)
