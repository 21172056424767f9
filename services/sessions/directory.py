"""What every node knows without asking: which tenants there are, by how tokens name them, and their rules.

All of it follows replicated documents. Where the view is too old to say, nobody is let in.
"""

import msgspec

from services.sessions.policy import Policy, Rules
from services.sessions.tokens import Tokens
from shared.bounds import RETRY_AFTER_MS
from shared.objects.config import Document, Documents, read_document
from shared.objects.errors import UnavailableError
from shared.storage.records import TenantRecord

POLICY = "session_policy"
CUT = "session_cut"
NAME = "default"
"""Of the one document of each kind that a tenant has."""


class Cut(msgspec.Struct, frozen=True):
    """Everything that began at `not_before_ms` or earlier is over; of the kind "session_cut"."""

    not_before_ms: int


_decode_policy = msgspec.json.Decoder(Policy).decode
_decode_cut = msgspec.json.Decoder(Cut).decode
_decode_tenant = msgspec.json.Decoder(TenantRecord).decode


class Directory:
    """The tenants that are let in, and the rules of each."""

    __slots__ = ("_cuts", "_documents", "_policies", "_rules", "_shared", "_tenants", "_tokens")

    def __init__(self, shared: Documents, documents: Documents, tokens: Tokens) -> None:
        self._shared = shared
        self._documents = documents
        self._tokens = tokens
        self._tenants: dict[bytes, str] = {}
        self._policies: dict[str, Policy] = {}
        self._cuts: dict[str, int] = {}
        self._rules: dict[str, Rules] = {}
        shared.subscribe("tenant", self._tenant_changed)
        documents.subscribe(POLICY, self._policy_changed)
        documents.subscribe(CUT, self._cut_changed)

    def tenant(self, tenant_ref: bytes) -> str | None:
        """The tenant that a token names, if it is let in.

        Raises:
            UnavailableError: the view is too old to say.
        """
        self._check_fresh()
        return self._tenants.get(tenant_ref)

    def rules(self, tenant: str) -> Rules:
        """What calls to the tenant's principals are made under.

        Raises:
            UnavailableError: the view is too old to say.
        """
        self._check_fresh()
        rules = self._rules.get(tenant)
        if rules is None:
            rules = Rules(self._policies.get(tenant, Policy()), self._cuts.get(tenant, 0))
            self._rules[tenant] = rules
        return rules

    def _check_fresh(self) -> None:
        if not (self._shared.fresh() and self._documents.fresh()):
            raise UnavailableError("The tenants cannot be checked at the moment.", retry_after_ms=RETRY_AFTER_MS)

    def _tenant_changed(self, _: str, name: str, document: Document | None) -> None:
        record = None if document is None else read_document(document, _decode_tenant)
        if record is None or record.disabled:
            self._tenants.pop(self._tokens.tenant_ref(name), None)
        else:
            self._tenants[self._tokens.tenant_ref(name)] = name

    def _policy_changed(self, tenant: str, _: str, document: Document | None) -> None:
        policy = None if document is None else read_document(document, _decode_policy)
        if document is None:
            self._policies.pop(tenant, None)
        elif policy is not None:  # One that this release cannot read leaves the one before in force.
            self._policies[tenant] = policy
        self._rules.pop(tenant, None)

    def _cut_changed(self, tenant: str, _: str, document: Document | None) -> None:
        cut = None if document is None else read_document(document, _decode_cut)
        if cut is not None:  # It never goes back: a document that is lost must not let anybody in again.
            self._cuts[tenant] = max(cut.not_before_ms, self._cuts.get(tenant, 0))
        self._rules.pop(tenant, None)
