"""One authenticated call: who asks, for which key, with which recipient, and whether the policies allow it."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from anchorhold.attestation.anchors import Anchor
from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.guard import Face, Guard, Use
from anchorhold.authority.journal import Journal
from anchorhold.authority.keystore import FullKeystore
from anchorhold.authority.kms import policy
from anchorhold.authority.kms.conditions import Values
from anchorhold.authority.kms.faults import KmsFault, denied, guarded, not_found
from anchorhold.authority.kms.fields import MAX_KEY_ID, Fields
from anchorhold.authority.kms.grant import Grant
from anchorhold.authority.kms.grant_tokens import MAX_TOKEN, MAX_TOKENS, read_token
from anchorhold.authority.kms.journal import Draft
from anchorhold.authority.kms.key import Key
from anchorhold.authority.kms.recipient import Recipient, verify_recipient
from anchorhold.authority.kms.request_values import Asked, caller_values, key_values, network_of, network_values
from anchorhold.authority.kms.state import Network, Principal, Realm, Transaction
from anchorhold.authority.kms.xks_proxy import ProxyTls

Answer = Mapping[str, object]
MAX_UNMET = 32  # conditions in one journal entry; ours have four
ALIAS = "alias/"
ALIAS_FORM = r"[a-zA-Z0-9:/_-]+"
_ALIAS = re.compile(ALIAS + ALIAS_FORM)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NOTHING = Asked()


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What stays the same from call to call."""

    realm: Realm
    anchors: tuple[Anchor, ...]
    keystore: FullKeystore
    journal: Journal
    guard: Guard
    proxy_tls: ProxyTls = field(default_factory=lambda: ProxyTls(None))
    """How external key store proxies are reached."""


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

    def key(self, member: str = "KeyId", *, by_alias: bool = False) -> Key:
        """The key that a member names: by id or ARN, or also by alias. Raises NotFoundException among others."""
        return self.key_named(self.fields.needed_text(member, least=1, most=MAX_KEY_ID), by_alias=by_alias)

    def key_named(self, name: str, *, by_alias: bool = False) -> Key:
        """An ARN of another partition, Region or account names nothing here."""
        key_id = name.removeprefix(self.realm.key_arn(""))
        alias = name.removeprefix(self.realm.alias_arn(""))
        if by_alias and _ALIAS.fullmatch(alias) and (pointed := self.transaction.aliases.get(alias)) is not None:
            key_id = pointed.key_id
            self.draft.named[key_id] = alias
        key = self.transaction.keys.get(key_id) if _UUID.fullmatch(key_id) else None
        if key is None:
            kind = "Alias" if by_alias and ALIAS in name else "Key"
            shown = name if name.startswith("arn:") else self.realm.alias_arn(name) if kind == "Alias" else None
            raise not_found(f"{kind} '{(shown or self.realm.key_arn(name))[:256]}' does not exist")
        self.draft.touch(self.realm.key_arn(key.key_id))
        return key

    def recipient(self) -> Recipient | None:
        """The verified recipient, if the caller brought a document. Raises ValidationException."""
        info = self.fields.recipient()
        if info is None:
            return None
        recipient = verify_recipient(info.unverified_document, self.around.anchors, self.now)
        self.draft.recipient = recipient.journal_fields()
        self.draft.registers = recipient.registers()
        return recipient

    def context(self, member: str = "EncryptionContext") -> dict[str, str]:
        """An encryption context, journaled in clear as AWS logs it."""
        context = self.fields.context(member) or {}
        if context:
            self.draft.parameters[member[0].lower() + member[1:]] = dict(context)
        return context

    def grant_tokens(self) -> None:
        """Checks them. A grant is valid at once here, so a token adds nothing. Raises InvalidGrantTokenException."""
        for token in self.fields.texts("GrantTokens", items=MAX_TOKENS, most=MAX_TOKEN) or ():
            grant_id = read_token(self.around.keystore, token)
            if self.transaction.grants.get(grant_id) is None:
                raise KmsFault("InvalidGrantTokenException", "the grant token names no grant")

    def asked(self, values: Values) -> Asked:
        return Asked(values=values)

    def authorise(
        self, key: Key, operation: str, asked: Asked = _NOTHING, *, under: Callable[[Grant], bool] = lambda _grant: True
    ) -> None:
        """The key's policy, with the caller's, allows this call, or one of the grants does that `under` admits too.

        Raises AccessDeniedException.
        """
        question = self.question(operation, self.realm.key_arn(key.key_id), self.values(key, asked))
        verdict = self.judge(key.policy, question)
        if verdict is policy.Verdict.DENIED:
            raise self._denied_by_statement(question)
        if verdict is policy.Verdict.SILENT:
            grants = self._grants(key, question, asked)
            if not grants:
                self.draft.unmet = self._unmet(key.policy, question)
                raise self._denied(question, f"because no resource-based policy allows the {question.action} action")
            if not any(map(under, grants)):
                raise self._denied(question, "because no grant that allows the action reaches as far as this call")
        self._guard(question, asked)

    def authorise_account(self, operation: str, resource: str = "*", asked: Asked = _NOTHING) -> None:
        """The caller's own policy allows an operation on what is no key. Raises AccessDeniedException."""
        question = self.question(operation, resource, self.values(None, asked))
        identity = self._identity_policy()
        verdict = policy.Verdict.SILENT if identity is None else identity.judge(question, ("*",))
        if verdict is policy.Verdict.DENIED:
            raise self._denied_by_statement(question)
        if verdict is policy.Verdict.SILENT:
            raise self._denied(question, f"because no identity-based policy allows the {question.action} action")
        self._guard(question, asked)

    def _guard(self, question: policy.Call, asked: Asked) -> None:
        """The guard allows what the policies allow; its word is in the call's journal entry. Raises KmsFault."""
        network = self.network()
        use = Use(
            Face.KMS,
            self.principal.arn,
            question.action,
            question.resource,
            partition=self.realm.partition,
            region=self.realm.region,
            tenant=(asked.context or {}).get("tenant"),
            vpc=None if network is None else network.vpc,
            vpce=None if network is None else network.vpce,
            measured={} if asked.recipient is None else asked.recipient.registers(),
            request_id=self.draft.request_id,
        )
        decision = self.around.guard.decide(self.transaction.connection, use, self.now)
        self.draft.guard.append(decision.record())
        if not decision.allowed:
            raise guarded(decision.rule, self.principal.arn, question.action, question.resource)

    def judge(self, key_policy: str, question: policy.Call) -> policy.Verdict:
        """What a key policy and the caller's own say together."""
        return policy.decide(policy.parse_policy(key_policy), self._identity_policy(), question)

    def question(self, operation: str, resource: str, values: Values) -> policy.Call:
        return policy.Call(self.principal.arn, self.realm.root_arn, f"kms:{operation}", resource, values)

    def values(self, key: Key | None, asked: Asked = _NOTHING) -> Values:
        """Every condition key that this call fills."""
        filled: dict[str, str | tuple[str, ...]] = {
            **caller_values(self.realm, self.principal, self.draft, self.now),
            **network_values(self.network()),
        }
        if key is not None:
            filled |= key_values(self.transaction, key, self.draft)
        return filled | dict(asked.fill())

    def network(self) -> Network | None:
        """The VPC that the call comes from, as far as the state names it."""
        return network_of(self.draft.source_address, self.transaction.networks())

    def _grants(self, key: Key, question: policy.Call, asked: Asked) -> Sequence[Grant]:
        """Grants of this key that admit the call: to the caller, or to the account and its own policy allows it."""
        identity = self._identity_policy()
        delegated = identity is not None and identity.judge(question, ("*",)) is policy.Verdict.ALLOWED
        grantees = (self.principal.arn, self.realm.root_arn) if delegated else (self.principal.arn,)
        held = self.transaction.grants.held(key.key_id, grantees)
        operation = question.action.removeprefix("kms:")
        return [grant for grant in held if grant.admits(operation, asked.context or {})]

    def _unmet(self, key_policy: str, question: policy.Call) -> tuple[Mapping[str, object], ...]:
        """What the document would have had to show, and what it showed: for the journal alone."""
        conditions = policy.parse_policy(key_policy).unmet(question, (question.principal, question.root))
        shown = (condition.attested(question.values) for condition in conditions)
        return tuple(one for one in shown if one is not None)[:MAX_UNMET]

    def _denied_by_statement(self, question: policy.Call) -> Exception:
        identity = self._identity_policy()
        own = identity is not None and identity.judge(question, ("*",)) is policy.Verdict.DENIED
        return self._denied(question, f"with an explicit deny in {'an identity' if own else 'a resource'}-based policy")

    def _denied(self, question: policy.Call, reason: str) -> Exception:
        return denied(self.principal.arn, question.action, question.resource, reason)

    def _identity_policy(self) -> policy.Policy | None:
        text = self.principal.identity_policy
        return None if text is None else policy.parse_policy(text, identity=True)
