"""Each way round an attestation condition: done, with plaintext to show for it, and refused under the generated policy.

The policy before differs from the generated one in what the linter names, and the way is gone under the generated one.
What this KMS does not do (replicas) is refused by name; there the policies alone are judged.
"""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from anchorhold.attestation.policy import Policy
from anchorhold.attestation.types import Platform
from anchorhold.authority.kms.policy import Call, Verdict, decide, default_policy, parse_policy
from anchorhold.enclave.keys.envelope import open_envelope
from anchorhold.enclave.nsm.module import NsmClient
from anchorhold.publish.kms_lint import Expectations, lint
from anchorhold.publish.kms_policy import Partition, Principals, key_policy
from anchorhold.publish.kms_statement import read_policy
from anchorhold.sim.nsm import ToyNsm

from .conftest import CONTEXT, MEASUREMENTS, MODULE, RSA_KEY, Kms, recipient, refused, spki

RECIPIENT = "kms:RecipientAttestation:"
Json = dict[str, object]


@dataclass
class Stand:
    """A key under a policy with one fault, a share wrapped while sealing, and the policy that closes the fault."""

    kms: Kms
    arn: str
    blob: str
    secret: bytes
    fixed: str

    def decrypt(self, name: str, document: bytes | None = None) -> bytes:
        """What a caller gets: the plaintext, or what opens with the key in his document."""
        more = {} if document is None else {"Recipient": recipient(document)}
        answer = self.kms.call(
            name, "Decrypt", KeyId=self.arn, CiphertextBlob=self.blob, EncryptionContext=CONTEXT, **more
        )
        if document is None:
            return base64.b64decode(answer["Plaintext"])
        return bytes(open_envelope(base64.b64decode(answer["CiphertextForRecipient"]), RSA_KEY))


def accepted(kms: Kms) -> Policy:
    one = {**{at: MEASUREMENTS[at] for at in (0, 1, 2)}, 16: kms.nsm().describe_pcr(16).value}
    return Policy(frozenset({Platform.SIMULATED}), (one,))


def generated(kms: Kms, *, sealing: bool = False) -> str:
    """The admin is the custodian; nobody here is the administrator, who is another account's word."""
    sealers = (kms.arn("publisher"),) if sealing else ()
    operator = kms.arn("admin").replace("user/admin", "user/operator")
    principals = Principals(Partition.AWS, (kms.arn("enclave"),), (operator,), kms.arn("admin"), sealers)
    return key_policy(accepted(kms), principals)


def stand(kms: Kms, change: Callable[[Kms, list[Json]], list[Json]]) -> Stand:
    """Sealed under the generated policy, which is then put with one fault in it."""
    arn = str(kms.call("admin", "CreateKey", Policy=generated(kms, sealing=True))["KeyMetadata"]["Arn"])
    made = kms.call("publisher", "GenerateDataKey", KeyId=arn, KeySpec="AES_256", EncryptionContext=CONTEXT)
    fixed = generated(kms)
    whole = json.loads(fixed)
    whole["Statement"] = change(kms, whole["Statement"])
    kms.call("admin", "PutKeyPolicy", KeyId=arn, Policy=json.dumps(whole))
    return Stand(kms, arn, made["CiphertextBlob"], base64.b64decode(made["Plaintext"]), fixed)


def without(statements: list[Json], *sids: str) -> list[Json]:
    """Without the statements whose Sid begins so."""
    left = [one for one in statements if not str(one["Sid"]).startswith(sids)]
    assert len(left) < len(statements)
    return left


def allow(kms: Kms, name: str, action: str) -> Json:
    return {"Sid": "Hole", "Effect": "Allow", "Principal": {"AWS": kms.arn(name)}, "Action": action, "Resource": "*"}


def conditioned(
    statements: list[Json], edit: Callable[[dict[str, dict[str, object]]], dict[str, dict[str, object]]]
) -> list[Json]:
    """The attested Allow alone, its condition changed."""
    left = without(statements, "DenyUnattested")
    for one in left:
        if str(one["Sid"]).startswith("AttestedDecrypt"):
            one["Condition"] = edit(one["Condition"])  # type: ignore[arg-type]  # a condition as generated
    return left


def registers(*names: str) -> Callable[[Kms, list[Json]], list[Json]]:
    """Only these registers are pinned."""

    def edit(condition: dict[str, dict[str, object]]) -> dict[str, dict[str, object]]:
        pinned = condition["StringEqualsIgnoreCase"]
        return {"StringEqualsIgnoreCase": {RECIPIENT + name: pinned[RECIPIENT + name] for name in names}}

    return lambda _, statements: conditioned(statements, edit)


def operator(written: str) -> Callable[[Kms, list[Json]], list[Json]]:
    """The same values under another operator."""
    return lambda _, statements: conditioned(
        statements, lambda condition: {written: condition["StringEqualsIgnoreCase"]}
    )


def _negated(_: Kms, statements: list[Json]) -> list[Json]:
    zeros = {RECIPIENT + name: "0" * 96 for name in ("ImageSha384", "PCR1", "PCR2", "PCR16")}
    return conditioned(statements, lambda _: {"StringNotEquals": dict(zeros)})


def _pattern(_: Kms, statements: list[Json]) -> list[Json]:
    def edit(condition: dict[str, dict[str, object]]) -> dict[str, dict[str, object]]:
        return {"StringLike": condition["StringEqualsIgnoreCase"] | {RECIPIENT + "PCR2": "a2*"}}

    return conditioned(statements, edit)


def _mixed(kms: Kms, statements: list[Json]) -> list[Json]:
    def edit(condition: dict[str, dict[str, object]]) -> dict[str, dict[str, object]]:
        pinned = condition["StringEqualsIgnoreCase"]
        return {"StringEqualsIgnoreCase": {key: [value, b"n".hex() * 48] for key, value in pinned.items()}}

    return conditioned(statements, edit)


def _joined(kms: Kms, statements: list[Json]) -> list[Json]:
    (attested,) = [one for one in statements if str(one["Sid"]).startswith("AttestedDecrypt")]
    pinned = attested["Condition"]["StringEqualsIgnoreCase"]  # type: ignore[index]  # a condition as generated
    joined = allow(kms, "enclave", "kms:Decrypt")
    joined |= {"Effect": "Deny", "Sid": "Joined", "Condition": {"StringNotEqualsIgnoreCase": pinned}}
    return [*without(statements, "DenyUnattested"), allow(kms, "enclave", "kms:Decrypt"), joined]


def _not_action(kms: Kms, statements: list[Json]) -> list[Json]:
    hole = allow(kms, "publisher", "kms:GetPublicKey")
    hole["NotAction"] = hole.pop("Action")
    return [*without(statements, "DenyUnattested"), hole]


def _opened(name: str, action: str, *closed_by: str) -> Callable[[Kms, list[Json]], list[Json]]:
    return lambda kms, statements: [*without(statements, *closed_by), allow(kms, name, action)]


def _delegated(kms: Kms, statements: list[Json]) -> list[Json]:
    root = kms.arn("admin").replace("user/admin", "root")
    return [*without(statements, "DenyUnattested"), *json.loads(default_policy(root))["Statement"]]


def _other(kms: Kms, **changes: bytes) -> bytes:
    """A document of another image: one register differs."""
    return kms.document(measurements=MEASUREMENTS | {int(name[3:]): value for name, value in changes.items()})


def _other_configuration(kms: Kms) -> bytes:
    client = NsmClient(ToyNsm(kms.pki, MEASUREMENTS, MODULE, lambda: kms.now).transact)
    client.extend_pcr(16, b"another configuration".ljust(48))
    client.lock_pcrs(32)
    return client.attest(public_key=spki(RSA_KEY))


def _without_configuration(kms: Kms) -> bytes:
    client = NsmClient(ToyNsm(kms.pki, MEASUREMENTS, MODULE, lambda: kms.now).transact)
    return client.attest(public_key=spki(RSA_KEY))


DECRYPTS: dict[
    str, tuple[set[str], Callable[[Kms, list[Json]], list[Json]], str, Callable[[Kms], bytes] | None]
] = {
    "a second Allow": (
        {"kms-unattested-allow"}, _opened("enclave", "kms:Decrypt", "DenyUnattested"), "enclave", None,
    ),
    "delegation to the account": ({"kms-root-delegation"}, _delegated, "admin", None),
    "signer and role only": (
        {"kms-image-unpinned"},
        lambda kms, statements: conditioned(
            statements, lambda _: {"StringEquals": {RECIPIENT + "PCR3": MEASUREMENTS[3].hex()}}
        ),
        "enclave",
        lambda kms: kms.document(measurements=dict.fromkeys((0, 1, 2), b"x" * 48) | {3: MEASUREMENTS[3]}),
    ),
    "the image alone": (
        {"kms-partial-registers"}, registers("ImageSha384", "PCR16"), "enclave", lambda kms: _other(kms, PCR1=b"x" * 48)
    ),
    "no configuration": (
        {"kms-configuration-unpinned"}, registers("ImageSha384", "PCR1", "PCR2"), "enclave", _other_configuration
    ),
    "IfExists, no document": ({"kms-if-exists"}, operator("StringEqualsIfExists"), "enclave", None),
    "IfExists, register not locked": (
        {"kms-if-exists"}, operator("StringEqualsIfExists"), "enclave", _without_configuration
    ),
    "a negated operator": ({"kms-negated"}, _negated, "enclave", None),
    "ForAllValues, no document": ({"kms-if-exists"}, operator("ForAllValues:StringEquals"), "enclave", None),
    "all actions but some": ({"kms-not-action"}, _not_action, "publisher", None),
    "a pattern": (
        {"kms-wildcard-measurement"}, _pattern, "enclave", lambda kms: _other(kms, PCR2=b"\xa2" + b"x" * 47)
    ),
    "parts of two releases": ({"kms-mixed-sets"}, _mixed, "enclave", lambda kms: _other(kms, PCR2=b"n" * 48)),
    "a Deny that joins its registers": (
        {"kms-deny-joined", "kms-image-unpinned"}, _joined, "enclave", lambda kms: _other(kms, PCR0=b"x" * 48)
    ),
}  # fmt: skip


def _codes(text: str) -> set[str]:
    return {one.code for one in lint(read_policy(text.encode(), "key"), [], Expectations()).findings}


def _put(kms: Kms, arn: str) -> str:
    return str(kms.call("admin", "GetKeyPolicy", KeyId=arn)["Policy"])


@pytest.mark.parametrize("way", DECRYPTS)
def test_a_way_round_to_decrypt_yields_the_share_until_it_is_closed(kms: Kms, way: str) -> None:
    codes, change, caller, document = DECRYPTS[way]
    at = stand(kms, change)
    assert codes <= _codes(_put(kms, at.arn))
    assert at.decrypt(caller, document(kms) if document else None) == at.secret
    kms.call("admin", "PutKeyPolicy", KeyId=at.arn, Policy=at.fixed)
    assert _codes(_put(kms, at.arn)) == set()
    refused("AccessDeniedException", lambda: at.decrypt(caller, document(kms) if document else None))
    assert at.decrypt("enclave", kms.document()) == at.secret, "the measured enclave goes on"


def test_who_may_change_the_policy_takes_the_share_until_another_is_named(kms: Kms) -> None:
    at = stand(kms, _opened("publisher", "kms:PutKeyPolicy", "DenyPolicyChange"))
    assert _codes(_put(kms, at.arn)) == {"kms-put-key-policy"}
    refused("AccessDeniedException", lambda: at.decrypt("publisher"))
    taken = json.dumps(
        {"Statement": [allow(kms, "publisher", "kms:*") | {"Sid": "Mine"}, allow(kms, "admin", "kms:*")]}
    )
    kms.call("publisher", "PutKeyPolicy", KeyId=at.arn, Policy=taken)
    assert at.decrypt("publisher") == at.secret
    kms.call("admin", "PutKeyPolicy", KeyId=at.arn, Policy=at.fixed)
    refused("AccessDeniedException", lambda: kms.call("publisher", "PutKeyPolicy", KeyId=at.arn, Policy=taken))
    refused("AccessDeniedException", lambda: at.decrypt("publisher"))


def test_who_makes_a_data_key_has_it_and_after_sealing_nobody_makes_one(kms: Kms) -> None:
    at = stand(kms, _opened("publisher", "kms:GenerateDataKey", "DenyDataKeys"))
    assert _codes(_put(kms, at.arn)) == {"kms-data-key"}
    make = {"KeyId": at.arn, "KeySpec": "AES_256", "EncryptionContext": CONTEXT}
    made = kms.call("publisher", "GenerateDataKey", **make)
    kept = base64.b64decode(made["Plaintext"])
    assert Stand(kms, at.arn, made["CiphertextBlob"], kept, at.fixed).decrypt("enclave", kms.document()) == kept
    kms.call("admin", "PutKeyPolicy", KeyId=at.arn, Policy=at.fixed)
    refused("AccessDeniedException", lambda: kms.call("publisher", "GenerateDataKey", **make))


def test_a_debug_enclave_s_zeros_are_refused_when_the_policy_is_put_and_when_it_is_asked(kms: Kms) -> None:
    def zeros(_: Kms, statements: list[Json]) -> list[Json]:
        return conditioned(statements, lambda _: {"StringEquals": {RECIPIENT + "ImageSha384": "0" * 96}})

    error = refused("MalformedPolicyDocumentException", lambda: stand(kms, zeros))
    assert "debug" in error.message
    at = stand(kms, _opened("enclave", "kms:Decrypt", "DenyUnattested"))
    debug = kms.document(measurements={3: b"r" * 48, 4: b"i" * 48})
    refused("ValidationException", lambda: at.decrypt("enclave", debug))


def test_reencryption_takes_the_share_to_a_key_that_asks_for_nothing_until_it_is_denied(kms: Kms) -> None:
    at = stand(kms, _opened("enclave", "kms:ReEncryptFrom", "DenyReEncryption"))
    assert _codes(_put(kms, at.arn)) == {"kms-reencrypt"}
    loose = kms.key(allow(kms, "enclave", "kms:ReEncryptTo"), allow(kms, "enclave", "kms:Decrypt"))
    move = {"CiphertextBlob": at.blob, "SourceEncryptionContext": CONTEXT, "DestinationKeyId": loose}
    refused("AccessDeniedException", lambda: at.decrypt("enclave"))
    moved = kms.call("enclave", "ReEncrypt", **move)
    assert (
        base64.b64decode(kms.call("enclave", "Decrypt", CiphertextBlob=moved["CiphertextBlob"])["Plaintext"])
        == at.secret
    )
    kms.call("admin", "PutKeyPolicy", KeyId=at.arn, Policy=at.fixed)
    assert _codes(_put(kms, at.arn)) == set()
    refused("AccessDeniedException", lambda: kms.call("enclave", "ReEncrypt", **move))
    assert at.decrypt("enclave", kms.document()) == at.secret, "the measured enclave goes on"


def test_a_grant_takes_the_share_without_a_document_until_making_one_is_denied(kms: Kms) -> None:
    at = stand(
        kms,
        lambda kms, statements: without(
            _opened("enclave", "kms:CreateGrant", "DenyGrants")(kms, statements), "DenyUnattested"
        ),
    )
    assert _codes(_put(kms, at.arn)) == {"kms-create-grant"}
    grant = {"KeyId": at.arn, "GranteePrincipal": kms.arn("publisher"), "Operations": ["Decrypt"]}
    refused("AccessDeniedException", lambda: at.decrypt("publisher"))
    kms.call("enclave", "CreateGrant", **grant)
    assert at.decrypt("publisher") == at.secret
    kms.call("admin", "PutKeyPolicy", KeyId=at.arn, Policy=at.fixed)
    assert _codes(_put(kms, at.arn)) == set()
    refused("AccessDeniedException", lambda: kms.call("enclave", "CreateGrant", **grant))
    refused("AccessDeniedException", lambda: at.decrypt("publisher"))
    assert at.decrypt("enclave", kms.document()) == at.secret, "the measured enclave goes on"


def test_a_grant_meets_the_denies_of_unattested_decryption(kms: Kms) -> None:
    """The generated policy's Denies reach grants made before it was put, and grants to the enclave itself."""
    at = stand(kms, _opened("enclave", "kms:CreateGrant", "DenyGrants"))
    kms.call("enclave", "CreateGrant", KeyId=at.arn, GranteePrincipal=kms.arn("publisher"), Operations=["Decrypt"])
    refused("AccessDeniedException", lambda: at.decrypt("publisher"))


def test_an_alias_that_moves_takes_the_next_share_until_it_is_denied(kms: Kms) -> None:
    """Whoever seals by alias seals under the key that it points to: here one that asks for nothing."""
    fixed = generated(kms, sealing=True)
    named = allow(kms, "enclave", "kms:CreateAlias") | {"Action": ["kms:CreateAlias", "kms:UpdateAlias"]}
    opened = json.dumps({"Statement": [*without(json.loads(fixed)["Statement"], "DenyAliases"), named]})
    arn = str(kms.call("admin", "CreateKey", Policy=opened)["KeyMetadata"]["Arn"])
    assert _codes(_put(kms, arn)) == {"kms-alias"}
    loose = kms.key(named, allow(kms, "enclave", "kms:Decrypt"), allow(kms, "publisher", "kms:GenerateDataKey"))
    kms.identity("enclave", "kms:*Alias", Resource=arn.rpartition("key/")[0] + "alias/*")
    for name in ("alias/one", "alias/two"):
        kms.call("enclave", "CreateAlias", AliasName=name, TargetKeyId=arn)
    blob, _ = _sealed(kms, "alias/one")
    refused(
        "AccessDeniedException", lambda: kms.call("enclave", "Decrypt", CiphertextBlob=blob, EncryptionContext=CONTEXT)
    )
    kms.call("enclave", "UpdateAlias", AliasName="alias/one", TargetKeyId=loose)
    blob, share = _sealed(kms, "alias/one")
    answer = kms.call("enclave", "Decrypt", CiphertextBlob=blob, EncryptionContext=CONTEXT)
    assert base64.b64decode(answer["Plaintext"]) == share
    kms.call("admin", "PutKeyPolicy", KeyId=arn, Policy=fixed)
    assert _codes(_put(kms, arn)) == set()
    move = {"AliasName": "alias/two", "TargetKeyId": loose}
    refused("AccessDeniedException", lambda: kms.call("enclave", "UpdateAlias", **move))
    again = {"AliasName": "alias/three", "TargetKeyId": arn}
    refused("AccessDeniedException", lambda: kms.call("enclave", "CreateAlias", **again))
    blob, share = _sealed(kms, "alias/two")
    refused(
        "AccessDeniedException", lambda: kms.call("enclave", "Decrypt", CiphertextBlob=blob, EncryptionContext=CONTEXT)
    )


def test_who_may_import_key_material_is_found_and_denied(kms: Kms) -> None:
    """What kept material does is shown in `test_kept_material.py`."""
    at = stand(kms, _opened("enclave", "kms:ImportKeyMaterial", "DenyImport"))
    assert _codes(_put(kms, at.arn)) == {"kms-import"}
    blob = base64.b64encode(b"blob").decode()
    asked = {"KeyId": at.arn, "ImportToken": blob, "EncryptedKeyMaterial": blob}
    asked["ExpirationModel"] = "KEY_MATERIAL_DOES_NOT_EXPIRE"
    # Allowed, and then refused for the key's origin: this one makes its own material.
    refused("UnsupportedOperationException", lambda: kms.call("enclave", "ImportKeyMaterial", **asked))
    kms.call("admin", "PutKeyPolicy", KeyId=at.arn, Policy=at.fixed)
    refused("AccessDeniedException", lambda: kms.call("enclave", "ImportKeyMaterial", **asked))


def _sealed(kms: Kms, name: str) -> tuple[str, bytes]:
    made = kms.call("publisher", "GenerateDataKey", KeyId=name, KeySpec="AES_256", EncryptionContext=CONTEXT)
    return made["CiphertextBlob"], base64.b64decode(made["Plaintext"])


NOT_DONE = {
    "ReplicateKey": ("kms-replicate", ("ReplicateKey", "UpdatePrimaryRegion"), "DenyReplicas"),
}


@pytest.mark.parametrize("operation", NOT_DONE)
def test_what_this_kms_does_not_do_is_closed_by_name_and_by_the_policy(kms: Kms, operation: str) -> None:
    code, actions, closed_by = NOT_DONE[operation]
    for action in actions:
        at = stand(kms, _opened("enclave", f"kms:{action}", closed_by))
        before = _put(kms, at.arn)
        assert _codes(before) == {code}
        call = Call(kms.arn("enclave"), "", f"kms:{action}", at.arn, {"aws:principalarn": kms.arn("enclave")})
        assert decide(parse_policy(before), None, call) is Verdict.ALLOWED
        assert decide(parse_policy(at.fixed), None, call) is Verdict.DENIED
        error = refused("UnsupportedOperationException", lambda arn=at.arn: kms.call("enclave", operation, KeyId=arn))  # type: ignore[misc]  # bound now
        assert operation in error.message
