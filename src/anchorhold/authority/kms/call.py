"""One authenticated call: who asks, for which key, with which recipient, and whether the policies allow it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from anchorhold.attestation.anchors import Anchor
from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.journal import Journal
from anchorhold.authority.keystore import Keystore
from anchorhold.authority.kms import policy
from anchorhold.authority.kms.conditions import context_key
from anchorhold.authority.kms.faults import KmsFault, denied, not_found
from anchorhold.authority.kms.fields import MAX_KEY_ID, Fields
from anchorhold.authority.kms.journal import Draft
from anchorhold.authority.kms.recipient import Recipient, verify_recipient
from anchorhold.authority.kms.state import Key, Principal, Realm, Transaction

Answer = Mapping[str, object]
MAX_UNMET = 32  # conditions in one journal entry; ours have four
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What stays the same from call to call."""

    realm: Realm
    anchors: tuple[Anchor, ...]
    keystore: Keystore
    journal: Journal


@dataclass(frozen=True, slots=True)
class Call:
    """What an operation works with."""

    around: Surroundings
    transaction: Transaction
    principal: Principal
    fields: Fields
    draft: Draft
    now: Milliseconds

    @property
    def realm(self) -> Realm:
        return self.around.realm

    def key(self) -> Key:
        """The key that KeyId names. Raises NotFoundException or ValidationException."""
        return self.key_named(self.fields.needed_text("KeyId", least=1, most=MAX_KEY_ID))

    def key_named(self, name: str) -> Key:
        """By id or full ARN; an alias names nothing here, because what it points to can be changed under a caller."""
        arn_head = self.realm.key_arn("")
        key_id = name.removeprefix(arn_head)
        shown = name if name.startswith("arn:") else self.realm.key_arn(name)
        key = self.transaction.key(key_id) if _UUID.fullmatch(key_id) else None
        if key is None:
            raise not_found(f"Key '{shown[:256]}' does not exist")
        self.draft.key_arn = self.realm.key_arn(key.key_id)
        return key

    def recipient(self) -> Recipient | None:
        """The verified recipient, if the caller brought a document. Raises ValidationException."""
        info = self.fields.recipient()
        if info is None:
            return None
        recipient = verify_recipient(info.unverified_document, self.around.anchors, self.now)
        self.draft.recipient = recipient.journal_fields()
        return recipient

    def authorise(
        self, key: Key, operation: str, recipient: Recipient | None = None, context: Mapping[str, str] | None = None
    ) -> None:
        """The key's policy, with the caller's, allows this call. Raises AccessDeniedException."""
        values = self.values() | {context_key(name): value for name, value in (context or {}).items()}
        if recipient is not None:
            values |= recipient.condition_values()
        resource = self.realm.key_arn(key.key_id)
        verdict = self.judge(key.policy, operation, resource, values)
        if verdict is policy.Verdict.DENIED:
            raise denied(
                self.principal.arn, f"kms:{operation}", resource, "with an explicit deny in a resource-based policy"
            )
        if verdict is policy.Verdict.SILENT:
            self.draft.unmet = self._unmet(key.policy, self._question(operation, resource, values))
            reason = f"because no resource-based policy allows the kms:{operation} action"
            raise denied(self.principal.arn, f"kms:{operation}", resource, reason)

    def judge(self, key_policy: str, operation: str, resource: str, values: Mapping[str, str]) -> policy.Verdict:
        question = self._question(operation, resource, values)
        return policy.decide(policy.parse_policy(key_policy), self._identity_policy(), question)

    def _unmet(self, key_policy: str, question: policy.Call) -> tuple[Mapping[str, object], ...]:
        """What the document would have had to show, and what it showed: for the journal alone."""
        conditions = policy.parse_policy(key_policy).unmet(question, (question.principal, question.root))
        shown = (condition.attested(question.values) for condition in conditions)
        return tuple(one for one in shown if one is not None)[:MAX_UNMET]

    def authorise_account(self, operation: str) -> None:
        """The caller's own policy allows an operation that has no key yet. Raises AccessDeniedException."""
        identity = self._identity_policy()
        question = self._question(operation, "*", self.values())
        if identity is None or identity.judge(question, ("*",)) is not policy.Verdict.ALLOWED:
            reason = f"because no identity-based policy allows the kms:{operation} action"
            raise denied(self.principal.arn, f"kms:{operation}", "*", reason)

    def _question(self, operation: str, resource: str, values: Mapping[str, str]) -> policy.Call:
        return policy.Call(self.principal.arn, self.realm.root_arn, f"kms:{operation}", resource, values)

    def _identity_policy(self) -> policy.Policy | None:
        text = self.principal.identity_policy
        return None if text is None else policy.parse_policy(text, identity=True)

    def values(self) -> dict[str, str]:
        """The condition keys that every call of this caller fills."""
        return {
            "kms:calleraccount": self.realm.account,
            "aws:principalaccount": self.realm.account,
            "aws:principalarn": self.principal.arn,
        }


def enabled(call: Call, key: Key) -> None:
    """Raises DisabledException. After authorisation: a stranger does not learn a key's state."""
    if not key.enabled:
        raise KmsFault("DisabledException", f"{call.realm.key_arn(key.key_id)} is disabled.")
