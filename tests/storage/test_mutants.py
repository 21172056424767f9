"""Broken variants of the scripts, each of which a rule has to catch: the rules are worth what they detect."""

import hashlib
from typing import NamedTuple

import pytest

from shared.storage.interface import StoreInDoubtError
from shared.storage.redis.client import Script
from shared.storage.redis.store import RedisStore
from shared.testing.valkey import Valkey
from tests.storage import (
    commit_rules,
    document_rules,
    full_rules,
    lease_rules,
    listing_rules,
    part_rules,
    quarantine_rules,
)
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
        "commit_of_any_number",
        "commit",
        "return number and #number < 17",
        "return number",
        commit_rules.a_number_that_no_store_takes_spoils_its_flight_alone,
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
        "lease[1] == ARGV[i] and lease[2] == ARGV[i + 1], #reply",
        "lease[3], #reply",
        lease_rules.a_load_is_fenced,
    ),
    Mutant(
        "journal_that_doubles",
        "commit",
        "string.format('%.0f-0', number)",
        "'*'",
        part_rules.a_journal_counts_on,
    ),
    Mutant(
        "journal_that_stops_at_a_repeat",
        "commit",
        "local added = redis.pcall('XADD'",
        "local added = redis.call('XADD'",
        part_rules.a_journal_counts_on,
    ),
    Mutant(
        "journal_that_keeps_everything",
        "commit",
        "if keep ~= '0' then redis.call('XTRIM', key, 'MINID', keep) end",
        "",
        part_rules.a_journal_keeps_what_it_is_told,
    ),
    Mutant(
        "journal_read_by_anybody",
        "journal",
        "lease[1] ~= ARGV[1] or lease[2] ~= ARGV[2]",
        "false",
        part_rules.a_journal_is_read_by_its_owner,
    ),
    Mutant(
        "journal_that_knows_one_direction",
        "journal",
        "ARGV[6] == '1'",
        "false",
        part_rules.a_journal_is_read_in_pages,
    ),
    Mutant(
        "row_beside_the_old_one",
        "commit",
        "    remove(hash, stem, field)\n    local sort_ms",
        "    local sort_ms",
        part_rules.an_index_has_one_row_of_an_object,
    ),
    Mutant(
        "row_that_cannot_be_cleared",
        "commit",
        "for_each(1, function(field) rows.remove(hash, stem, field) end)",
        "skip(1)",
        part_rules.an_index_has_one_row_of_an_object,
    ),
    Mutant(
        "rows_that_outlive_their_object",
        "commit",
        "rows.remove_all(hash, KEYS[k + 5])",
        "do end",
        part_rules.a_sweep_leaves_no_part,
    ),
    Mutant(
        "gone_that_leaves_parts",
        "commit",
        "redis.call('DEL', hash, KEYS[k + 1])",
        "redis.call('DEL', hash)",
        part_rules.gone_leaves_no_part,
    ),
    Mutant(
        "gone_that_forgets",
        "commit",
        "redis.call('DEL', hash, KEYS[k + 1])",
        "redis.call('DEL', hash, KEYS[k + 1], KEYS[k + 2])",
        part_rules.gone_leaves_no_part,
    ),
    Mutant(
        "gone_that_comes_back",
        "commit",
        "  if gone then\n    a = a + 2\n",
        "  if false then\n    a = a + 2\n",
        part_rules.gone_leaves_no_part,
    ),
    Mutant(
        "sweep_of_messages",
        "commit",
        "and redis.call('EXISTS', KEYS[k + 3]) == 0",
        "",
        part_rules.a_sweep_spares_who_waits_to_be_heard,
    ),
    Mutant(
        "entries_without_end",
        "commit",
        "redis.call('PEXPIREAT', key, string.format('%.0f', latest))",
        "do end",
        part_rules.entries_expire_without_a_load,
    ),
    Mutant(
        "entries_that_leave_early",
        "commit",
        "latest >= 0 and latest > redis.call('PEXPIRETIME', key)",
        "latest >= 0",
        part_rules.entries_expire_without_a_load,
    ),
    Mutant(
        "entries_that_cannot_be_removed",
        "commit",
        "each('HDEL', key, 1)",
        "skip(1)",
        part_rules.an_entry_can_be_removed_or_replaced,
    ),
    Mutant(
        "load_of_expired_entries",
        "load",
        "<= now then",
        "<= 0 then",
        part_rules.entries_are_kept_until_they_expire,
    ),
    Mutant(
        "load_that_leaves_expired_entries",
        "load",
        "redis.call('HDEL', key, flat[i])",
        "do end",
        part_rules.entries_are_kept_until_they_expire,
    ),
    Mutant(
        "messages_out_of_order",
        "commit",
        "redis.call('ZADD', key, number, id .. message_id)",
        "redis.call('ZADD', key, 1, id .. message_id)",
        listing_rules.an_outbox_lists_what_waits,
    ),
    Mutant(
        "messages_without_number",
        "commit",
        "redis.call('HINCRBY', lease, 'sent', 1)",
        "1",
        part_rules.messages_keep_the_order_of_sending,
    ),
    Mutant(
        "messages_that_stay",
        "commit",
        "redis.call('ZREM', key, id .. message_id)",
        "do end",
        part_rules.messages_keep_the_order_of_sending,
    ),
    Mutant(
        "outbox_from_the_start",
        "outbox",
        "'(' .. ARGV[2 + i]",
        "'(0'",
        listing_rules.an_outbox_lists_what_waits,
    ),
    Mutant(
        "page_that_starts_over",
        "page",
        "if not score then return 0 end",
        "do return 0 end",
        listing_rules.a_listing_goes_on_where_it_stopped,
    ),
    Mutant(
        "page_that_skips_a_time",
        "page",
        "while low < high do",
        "low = high\n  while low < high do",
        listing_rules.a_listing_goes_on_where_it_stopped,
    ),
    Mutant(
        "page_that_repeats_a_row",
        "page",
        "return #a > #b",
        "return true",
        listing_rules.a_listing_goes_on_where_it_stopped,
    ),
    Mutant(
        "page_that_compares_no_bytes",
        "page",
        "if x ~= y then return x > y end",
        "",
        listing_rules.a_listing_goes_on_where_it_stopped,
    ),
    Mutant(
        "count_of_the_last_shard",
        "count",
        "sum = sum + redis.call('ZCARD', key)",
        "sum = redis.call('ZCARD', key)",
        listing_rules.a_count_sums_over_shards,
    ),
    Mutant(
        "objects_of_one_length",
        "objects",
        "if not longer then break end",
        "do break end",
        listing_rules.objects_are_listed_by_kind_tenant_and_prefix,
    ),
    Mutant(
        "objects_that_repeat_one",
        "objects",
        "'(' .. after or",
        "'[' .. after or",
        listing_rules.objects_are_listed_by_kind_tenant_and_prefix,
    ),
    Mutant(
        "objects_without_prefix",
        "objects",
        "local last = '[' .. names_of(length) .. prefix .. string.rep('\\255', length - #prefix)",
        "local last = '[' .. names_of(length) .. string.rep('\\255', length)",
        listing_rules.objects_are_listed_by_kind_tenant_and_prefix,
    ),
    Mutant(
        "claim_of_valid_leases",
        "claim",
        "(free or expires <= now or",
        "(true or",
        lease_rules.a_valid_lease_of_another_is_refused,
    ),
    Mutant(
        "claim_that_knows_no_end",
        "claim",
        "(free or expires <= now or",
        "(free or",
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
        "not refence and (free",
        "(free",
        lease_rules.a_refence_of_what_another_has_is_refused,
    ),
    Mutant(
        "claim_that_does_not_know_itself",
        "claim",
        "local own = is_kin(old, token)",
        "local own = false",
        lease_rules.a_process_claims_over_itself,
    ),
    Mutant(
        "claim_by_a_late_copy",
        "claim",
        "granted = is_before(old, token)",
        "granted = true",
        lease_rules.an_older_claim_is_refused_for_ever,
    ),
    Mutant(
        "claim_by_a_late_copy_once_it_is_free",
        "claim",
        "granted = is_before(old, token)",
        "granted = free or expires <= now or is_before(old, token)",
        lease_rules.an_older_claim_is_refused_for_ever,
    ),
    Mutant(
        "claim_that_counts_in_prefixes",
        "claim",
        "string.byte(a, i) or -1",
        "string.byte(a, i) or 256",
        lease_rules.tokens_count_in_bytes,
    ),
    Mutant(
        "claim_that_takes_itself_for_the_owner_before",
        "claim",
        "not (own and epoch > known)",
        "true",
        lease_rules.a_claim_without_an_answer_is_passed_over,
    ),
    Mutant(
        "claim_at_the_same_epoch",
        "claim",
        "epoch = math.max(epoch + 1, known + 1, now)",
        "epoch = math.max(epoch, 1)",
        lease_rules.an_expired_lease_is_granted,
    ),
    Mutant(
        "claim_below_a_known_epoch",
        "claim",
        "known + 1, now)",
        "now)",
        lease_rules.an_epoch_is_beyond_the_newest_that_the_claimer_knows,
    ),
    Mutant(
        "claim_that_forgets_the_last_commit",
        "claim",
        "ptoken, pcid = old, lease[7] or ''",
        "ptoken, pcid = old, ''",
        lease_rules.a_refence_tells_the_last_commit,
    ),
    Mutant(
        "renewal_without_guard",
        "renew",
        "lease[1] == epoch and lease[2] == token",
        "lease[3]",
        lease_rules.a_renewal_after_a_claim_is_refused,
    ),
    Mutant(
        "renewal_takes_all_for_one_run",
        "renew",
        "at = at + 3",
        "at = at",
        lease_rules.leases_that_were_claimed_together_and_apart_are_renewed_at_once,
    ),
    Mutant(
        "release_without_guard",
        "release",
        "lease[1] == ARGV[3 * i - 2] and lease[2] == ARGV[3 * i - 1]",
        "true",
        lease_rules.only_the_owner_releases,
    ),
    Mutant(
        "due_rows_that_hide_others",
        "due",
        "'LIMIT', passed",
        "'LIMIT', 0",
        commit_rules.expired_objects_are_those_of_the_past,
    ),
    Mutant(
        "due_rows_from_the_oldest_on",
        "due",
        "key, from_ms,",
        "key, '-inf',",
        commit_rules.due_alarms_come_oldest_first,
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
        "  section.needs_room = needs_room",
        "  (sections[1] or section).needs_room = needs_room",
        full_rules.sections_of_a_full_store_stand_alone,
    ),
    Mutant(
        "documents_that_trust_the_revision",
        "documents_since",
        "newest < since",
        "false",
        document_rules.a_store_gone_back_in_time_starts_over,
    ),
    Mutant(
        "load_that_knows_no_quarantine",
        "load",
        "ours and redis.call('HGET', KEYS[k + 1], ARGV[i + 3]) or ''",
        "''",
        quarantine_rules.a_load_brings_the_quarantine,
    ),
    Mutant(
        "load_that_tells_strangers_of_the_quarantine",
        "load",
        "ours and redis.call('HGET', KEYS[k + 1], ARGV[i + 3]) or ''",
        "redis.call('HGET', KEYS[k + 1], ARGV[i + 3]) or ''",
        quarantine_rules.a_load_brings_the_quarantine,
    ),
    Mutant(
        "quarantine_lengthened_by_a_repeat",
        "quarantine",
        "if count > 0 and ends > now then",
        "if false then",
        quarantine_rules.a_term_that_is_not_over_stays,
    ),
    Mutant(
        "quarantine_that_never_doubles",
        "quarantine",
        "first * 2 ^ math.min(count, 60)",
        "first",
        quarantine_rules.the_next_term_is_twice_as_long,
    ),
    Mutant(
        "quarantine_without_longest_term",
        "quarantine",
        "math.min(longest, first * 2 ^ math.min(count, 60))",
        "first * 2 ^ math.min(count, 60)",
        quarantine_rules.the_next_term_is_twice_as_long,
    ),
    Mutant(
        "quarantine_that_forgets_nothing",
        "quarantine",
        "if ends + memory <= now then count = 0 end",
        "",
        quarantine_rules.a_quiet_object_begins_anew,
    ),
    Mutant(
        "quarantine_without_end",
        "quarantine",
        "redis.call('PEXPIREAT', key, string.format('%.0f', latest + memory))",
        "",
        quarantine_rules.a_quiet_object_begins_anew,
    ),
    Mutant(
        "quarantine_without_bound",
        "quarantine",
        "#others + 1 - objects_max",
        "0",
        quarantine_rules.a_shard_remembers_so_many,
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
    with pytest.raises((AssertionError, StoreInDoubtError)):
        on_valkey(mutant.rule, server.url, change)
