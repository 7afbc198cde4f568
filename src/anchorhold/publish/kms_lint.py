"""Finds every way round an attestation condition in a key policy (docs/spec/kms-policy.md 4).

A way round is a path: an Allow that no Deny closes, by which somebody gets plaintext, or changes who does, without
showing the whole measured image and its configuration. Each finding has a stable code, the statement, why, and a fix.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from anchorhold.attestation.policy import TPM_ZERO, Policy
from anchorhold.attestation.types import SHA384_BYTES, Platform
from anchorhold.publish.kms_reach import RECIPIENT_ACTIONS, Path, Register, is_recipient_key, paths, register
from anchorhold.publish.kms_statement import EVERYBODY, Document, Statement

HEX = 2 * SHA384_BYTES
_ZERO = "0" * HEX
_DATA_KEYS = frozenset({"kms:GenerateDataKey", "kms:GenerateDataKeyPair"})
_CHANGE = "kms:PutKeyPolicy"
_AROUND = {
    "kms:ReEncryptFrom": "kms-reencrypt",
    "kms:CreateGrant": "kms-create-grant",
    "kms:ReplicateKey": "kms-replicate",
    "kms:UpdatePrimaryRegion": "kms-replicate",
    "kms:CreateAlias": "kms-alias",
    "kms:UpdateAlias": "kms-alias",
    "kms:ImportKeyMaterial": "kms-import",
}
_LOOSE = {"if-exists": "kms-if-exists", "negated": "kms-negated", "wildcard": "kms-wildcard-measurement"}
_IMAGE = Register(False, 0)
_SPLIT = (Register(False, 1), Register(False, 2))
_CONFIGURATION = Register(False, 16)
_TPM_BINDINGS = ({Register(True, 4), Register(True, 12)}, {Register(True, 7)})
_TPM_FIRMWARE = Register(True, 1)
_NARROWING = frozenset(
    {"kms:calleraccount", "aws:principalaccount", "aws:principalarn", "aws:principalorgid", "aws:userid"}
)

RULES: Mapping[str, tuple[str, str]] = {
    "kms-unattested-allow": (
        "plaintext without a document: this Allow stands beside the attested one",
        "take the action out, or deny it to everybody whose registers differ, one Deny for each register",
    ),
    "kms-root-delegation": (
        "the account as principal hands the decision to IAM: any administrator of the account can allow it",
        "name roles, or deny the action to everybody whose registers differ, one Deny for each register",
    ),
    "kms-reencrypt": (
        "ReEncryptFrom takes no recipient: the ciphertext is moved under a key that asks for nothing",
        "deny kms:ReEncrypt* to everybody",
    ),
    "kms-create-grant": (
        "a grant allows Decrypt with no attestation: its constraints know the encryption context only",
        "deny kms:CreateGrant to everybody",
    ),
    "kms-put-key-policy": (
        "whoever may change the policy can allow themselves everything else",
        "name one custodian and deny kms:PutKeyPolicy to all others by aws:PrincipalArn, or to everybody",
    ),
    "kms-debug-zero": (
        "a register of zeros is what every debug enclave attests, and its parent reads its memory",
        "pin the registers of the production image",
    ),
    "kms-image-unpinned": (
        "no condition pins the image: role, instance or signer alone admit other images, old ones among them",
        "pin ImageSha384 (PCR0), PCR1, PCR2 and PCR16",
    ),
    "kms-partial-registers": (
        "PCR0 hashes kernel, command line and ramdisks with no lengths between: bytes can move across the borders",
        "pin PCR1 and PCR2 beside PCR0",
    ),
    "kms-configuration-unpinned": (
        "the same image under another configuration: another model, other signers, another log",
        "pin PCR16, which follows from the deployment configuration",
    ),
    "kms-tpm-registers": (
        "these NitroTPM registers do not tell the system that booted; register 1 differs on every instance",
        "pin NitroTPMPCR4 with NitroTPMPCR12, or NitroTPMPCR7",
    ),
    "kms-replicate": (
        "a replica in another Region has a policy of its own, written by whoever makes it",
        "deny kms:ReplicateKey and kms:UpdatePrimaryRegion to everybody; use a single-Region key",
    ),
    "kms-alias": (
        "an alias can be moved to a key with another policy, under whoever names the key by it",
        "deny kms:CreateAlias and kms:UpdateAlias to everybody; name the key by its full ARN",
    ),
    "kms-import": (
        "whoever imports key material may have kept it, and decrypts without KMS",
        "deny kms:ImportKeyMaterial to everybody; use a key whose origin is AWS_KMS",
    ),
    "kms-data-key": (
        "whoever makes a data key without a document has its plaintext for ever, whatever Decrypt asks for",
        "name the sealer and deny kms:GenerateDataKey* to all others by aws:PrincipalArn; nobody once sealing is done",
    ),
    "kms-if-exists": (
        "...IfExists and ForAllValues hold when the key is absent: a caller with no document passes",
        "use StringEqualsIgnoreCase",
    ),
    "kms-negated": (
        "a negated operator in an Allow holds for every other image, and for a caller with no document",
        "use StringEqualsIgnoreCase with the accepted values",
    ),
    "kms-wildcard-measurement": (
        "a pattern in place of a measurement admits images nobody reviewed",
        "write all 96 digits",
    ),
    "kms-wildcard-principal": (
        "anybody of any account may ask",
        "name the role, or condition on kms:CallerAccount",
    ),
    "kms-not-principal": (
        "NotPrincipal in an Allow admits everybody in the world but those it names",
        "name with Principal who may",
    ),
    "kms-not-action": (
        "NotAction in an Allow admits every action it does not name, also those AWS adds later",
        "name with Action what may be done",
    ),
    "kms-mixed-sets": (
        "several values in several registers: parts of two releases that nobody accepted together pass",
        "write one Allow for each accepted set",
    ),
    "kms-deny-joined": (
        "the conditions of one Deny hold together: it stops a document only if all these registers differ at once",
        "write one Deny for each register",
    ),
    "kms-unknown-key": (
        "there is no such condition key: it is absent from every request",
        "use ImageSha384, PCR0..PCR31 or NitroTPMPCR0..NitroTPMPCR23 under kms:RecipientAttestation:",
    ),
    "kms-malformed-measurement": (
        "a measurement is 96 hexadecimal digits; this value never matches",
        "write all 96 digits",
    ),
    "kms-not-released": (
        "a measurement that is in no accepted release",
        "generate the policy again: anchorhold policy kms",
    ),
}
"""Why, and the fix, of each code."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One way round, or one condition that cannot mean what its author thought."""

    code: str
    document: str
    statement: str
    actions: tuple[str, ...]
    principals: tuple[str, ...]

    @property
    def why(self) -> str:
        return RULES[self.code][0]

    @property
    def fix(self) -> str:
        return RULES[self.code][1]


@dataclass(frozen=True, slots=True)
class Expectations:
    """What the linter is told. Custodians and sealers are None where the policy's own Denies may name them."""

    configuration: bool = True
    accepted: Policy | None = None
    custodians: frozenset[str] | None = None
    sealers: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What was found, and whom the policy trusts all the same."""

    findings: tuple[Finding, ...]
    notes: tuple[str, ...]


def lint(key: Document | None, identities: Sequence[Document], expect: Expectations) -> Report:
    """Every way round, by document, statement and code."""
    seen: dict[tuple[str, str, str], tuple[set[str], set[str]]] = {}
    notes: set[str] = set()
    for code, path in _ways(key, identities, expect, notes):
        actions, principals = seen.setdefault((path.document, path.statement.where, code), (set(), set()))
        actions.add(path.action)
        principals.add(path.who.name)
    found = [
        Finding(code, document, statement, tuple(sorted(actions)), tuple(sorted(principals)))
        for (document, statement, code), (actions, principals) in seen.items()
    ]
    for document in (*(() if key is None else (key,)), *identities):
        found += [Finding(code, document.name, where, (), ()) for code, where in _oddities(document)]
    return Report(tuple(found), tuple(sorted(notes)))


def _ways(
    key: Document | None, identities: Sequence[Document], expect: Expectations, notes: set[str]
) -> Iterator[tuple[str, Path]]:
    for action in (*RECIPIENT_ACTIONS, _CHANGE, *_AROUND):
        for path in paths(key, identities, action):
            codes = set(_codes(path, expect, notes))
            yield from ((code, path) for code in sorted(codes))
            if path.who.name == EVERYBODY and not _narrow(path.statement):
                yield ("kms-not-principal" if path.statement.not_principal else "kms-wildcard-principal"), path
            if path.statement.not_action:
                yield "kms-not-action", path
            if codes and path.joined:
                yield "kms-deny-joined", path


def _codes(path: Path, expect: Expectations, notes: set[str]) -> Iterator[str]:
    if path.action in _AROUND:
        yield _AROUND[path.action]
    elif path.action == _CHANGE:
        if _named(path, expect.custodians):
            notes.add(f"{path.who.name} may change the policy: whoever speaks for it can open the key")
        else:
            yield "kms-put-key-policy"
    elif path.pins or path.loose or path.attested:
        yield from _attestation(path, expect)
    elif path.action not in _DATA_KEYS:
        yield "kms-root-delegation" if path.who.broad and path.who.account else "kms-unattested-allow"
    elif _named(path, expect.sealers):
        notes.add(f"{path.who.name} may make data keys: it has had the plaintext of each one it made")
    else:
        yield "kms-data-key"


def _named(path: Path, expected: frozenset[str] | None) -> bool:
    return path.declared if expected is None else path.who.name in expected


def _attestation(path: Path, expect: Expectations) -> Iterator[str]:
    """Whether what a document must show is enough."""
    yield from _registers(path, configuration=expect.configuration)
    yield from {_LOOSE[how] for how in path.loose.values()}
    values = [value for accepted in path.pins.values() for value in accepted]
    # Zero in a TPM's 12 is the genuine value: nothing was added to the measured command line (GHSA-xrv8-2pf5-f3q7).
    if any(_ZERO in accepted for which, accepted in path.pins.items() if not (which.tpm and which.index in TPM_ZERO)):
        yield "kms-debug-zero"
    if any(len(value) != HEX or set(value) - set("0123456789abcdef") for value in values):
        yield "kms-malformed-measurement"
    if sum(len(accepted) > 1 for accepted in path.pins.values()) > 1:
        yield "kms-mixed-sets"
    if expect.accepted is not None and not _released(path, expect.accepted):
        yield "kms-not-released"


def _registers(path: Path, *, configuration: bool) -> Iterator[str]:
    named = path.pins.keys() | path.loose.keys()
    if any(one.tpm for one in named):
        if _TPM_FIRMWARE in named or not any(binding <= named for binding in _TPM_BINDINGS):
            yield "kms-tpm-registers"
    elif _IMAGE not in named:
        yield "kms-image-unpinned"
    else:
        if not named >= set(_SPLIT):
            yield "kms-partial-registers"
        if configuration and _CONFIGURATION not in named:
            yield "kms-configuration-unpinned"


def _released(path: Path, accepted: Policy) -> bool:
    """Whether every register pinned has accepted values only, and some accepted set is pinned whole."""
    tpm = Platform.NITRO_TPM in accepted.platforms
    sets = [{Register(tpm, index): value.hex() for index, value in one.items()} for one in accepted.measurements]
    fitting = [one for one in sets if one.keys() <= path.pins.keys()]
    return bool(fitting) and all(
        path.pins[which] <= {one[which] for one in fitting} for which in {which for one in fitting for which in one}
    )


def _narrow(statement: Statement) -> bool:
    return any(one.key in _NARROWING and one.names and not one.negated for one in statement.conditions)


def _oddities(document: Document) -> Iterator[tuple[str, str]]:
    """Conditions on attestation that no request can bring."""
    for statement in document.statements:
        if any(is_recipient_key(one.key) and register(one.key) is None for one in statement.conditions):
            yield "kms-unknown-key", statement.where
