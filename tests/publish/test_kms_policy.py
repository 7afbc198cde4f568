"""Generated policies: judged by the KMS face's own engine, within AWS's limits, in every partition."""

import json
from collections.abc import Iterator

import pytest

from anchorhold.attestation.configuration import pcr16
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.policy import MAX_ACCEPTED, Policy, PolicyInvalid, policy_to_json
from anchorhold.attestation.types import ConfigDigest, Platform
from anchorhold.authority.kms.policy import Call, Verdict, decide, default_policy, parse_policy
from anchorhold.publish.kms_accepted import MeasurementsRefused, accepted_policy, sets_from_json
from anchorhold.publish.kms_lint import Expectations, lint
from anchorhold.publish.kms_policy import (
    MAX_IDENTITY_POLICY,
    MAX_KEY_POLICY,
    KmsPolicyRefused,
    Partition,
    Principals,
    identity_policy,
    key_policy,
)
from anchorhold.publish.kms_statement import read_policy

REGISTERS = (0, 1, 2, 16)
ENCLAVE, OPS, CUSTODIAN, SEALER, OTHER = "enclave", "ops", "custodian", "sealer", "other"
AROUND = (
    "ReEncryptFrom", "ReEncryptTo", "CreateGrant", "ReplicateKey", "UpdatePrimaryRegion", "ImportKeyMaterial",
    "GetParametersForImport", "CreateAlias", "UpdateAlias", "DeleteAlias",
)  # fmt: skip


def accepted(releases: int = 1, platform: Platform = Platform.NITRO_ENCLAVE) -> Policy:
    sets = ({at: bytes([1 + release, at]) * 24 for at in REGISTERS} for release in range(releases))
    return Policy(frozenset({platform}), tuple(sets))


def arn(name: str, partition: Partition = Partition.AWS) -> str:
    return f"arn:{partition.value}:iam::111122223333:role/{name}"


def principals(partition: Partition = Partition.AWS, *, sealing: bool = True, custodian: bool = True) -> Principals:
    return Principals(
        partition,
        (arn(ENCLAVE, partition),),
        (arn(OPS, partition),),
        arn(CUSTODIAN, partition) if custodian else None,
        (arn(SEALER, partition),) if sealing else (),
    )


def judged(
    text: str, name: str, operation: str, document: dict[int, bytes] | None = None, *, iam: bool = False, **context: str
) -> Verdict:
    """What the KMS face decides about this caller; with `iam` he has every right that IAM can give."""
    partition = Partition(json.loads(text)["Statement"][0]["Principal"]["AWS"][0].split(":")[1])
    root = f"arn:{partition.value}:iam::111122223333:root"
    own = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "kms:*", "Resource": "*"}]}
    values = {"aws:principalarn": arn(name, partition), "kms:calleraccount": "111122223333"}
    values |= {f"kms:encryptioncontext:{key}": value for key, value in context.items()}
    for at, value in (document or {}).items():
        values[f"kms:recipientattestation:{'imagesha384' if at == 0 else f'pcr{at}'}"] = value.hex()
    identity = parse_policy(json.dumps(own), identity=True) if iam else None
    call = Call(arn(name, partition), root, f"kms:{operation}", "arn:x:kms:r:1:key/1", values)
    return decide(parse_policy(text), identity, call)


def _others(policy: Policy) -> Iterator[dict[int, bytes] | None]:
    """No document, and for each register documents that differ in it or lack it."""
    good = dict(policy.measurements[0])
    yield None
    for at in REGISTERS:
        yield good | {at: b"x" * 48}
        yield {index: value for index, value in good.items() if index != at}
    yield dict.fromkeys(REGISTERS, bytes(48))


@pytest.mark.parametrize("partition", Partition)
def test_the_measured_enclave_decrypts_and_nobody_else(partition: Partition) -> None:
    policy = accepted()
    text = key_policy(policy, principals(partition))
    good = dict(policy.measurements[0])
    assert judged(text, ENCLAVE, "Decrypt", good) is Verdict.ALLOWED
    for name in (ENCLAVE, OPS, CUSTODIAN, SEALER, OTHER):
        for document in _others(policy):
            assert judged(text, name, "Decrypt", document, iam=True) is not Verdict.ALLOWED
    for name in (OPS, CUSTODIAN, SEALER, OTHER):
        assert judged(text, name, "Decrypt", good) is not Verdict.ALLOWED
    assert json.loads(text)["Statement"][0]["Principal"]["AWS"][0].startswith(f"arn:{partition.value}:")


def delegated(text: str) -> str:
    """The same policy, and a statement that hands everything to IAM."""
    whole = json.loads(text)
    whole["Statement"] += json.loads(default_policy("arn:aws:iam::111122223333:root"))["Statement"]
    return json.dumps(whole)


def test_a_statement_added_for_the_account_opens_nothing() -> None:
    policy = accepted()
    text = delegated(key_policy(policy, principals()))
    for name in (ENCLAVE, OPS, CUSTODIAN, SEALER, OTHER):
        for document in _others(policy):
            assert judged(text, name, "Decrypt", document, iam=True) is Verdict.DENIED
            assert judged(text, name, "DeriveSharedSecret", document, iam=True) is Verdict.DENIED


@pytest.mark.parametrize("operation", AROUND)
def test_no_way_round_is_open_even_to_an_account_s_administrator(operation: str) -> None:
    text = delegated(key_policy(accepted(), principals()))
    for name in (ENCLAVE, OPS, CUSTODIAN, SEALER, OTHER):
        assert judged(text, name, operation, iam=True) is Verdict.DENIED


def test_the_policy_changes_by_the_custodian_alone_or_never() -> None:
    text = key_policy(accepted(), principals())
    assert judged(text, CUSTODIAN, "PutKeyPolicy") is Verdict.ALLOWED
    for name in (ENCLAVE, OPS, SEALER, OTHER):
        assert judged(text, name, "PutKeyPolicy", iam=True) is Verdict.DENIED
    final = key_policy(accepted(), principals(custodian=False))
    assert judged(final, CUSTODIAN, "PutKeyPolicy", iam=True) is Verdict.DENIED


def test_data_keys_are_made_by_the_sealer_alone_and_after_sealing_by_nobody() -> None:
    text = key_policy(accepted(), principals())
    for operation in ("GenerateDataKey", "Encrypt"):
        assert judged(text, SEALER, operation) is Verdict.ALLOWED
        for name in (ENCLAVE, OPS, CUSTODIAN, OTHER):
            assert judged(text, name, operation, iam=True) is Verdict.DENIED
        final = key_policy(accepted(), principals(sealing=False))
        assert judged(final, SEALER, operation, iam=True) is Verdict.DENIED


def test_an_administrator_disables_and_does_not_use() -> None:
    text = key_policy(accepted(), principals())
    for operation in ("DisableKey", "EnableKey", "DescribeKey", "ScheduleKeyDeletion"):
        assert judged(text, OPS, operation) is Verdict.ALLOWED
        assert judged(text, ENCLAVE, operation) is Verdict.SILENT


def test_two_releases_pass_whole_and_no_mix_of_them() -> None:
    policy = accepted(2)
    text = key_policy(policy, principals())
    first, second = map(dict, policy.measurements)
    assert judged(text, ENCLAVE, "Decrypt", first) is Verdict.ALLOWED
    assert judged(text, ENCLAVE, "Decrypt", second) is Verdict.ALLOWED
    for at in REGISTERS:
        assert judged(text, ENCLAVE, "Decrypt", first | {at: second[at]}) is Verdict.SILENT


def test_the_encryption_context_asked_for_is_demanded() -> None:
    policy = accepted()
    text = key_policy(policy, principals(), {"D": "d0", "model": "tiny"})
    good = dict(policy.measurements[0])
    assert judged(text, ENCLAVE, "Decrypt", good, D="d0", model="tiny", role="share") is Verdict.ALLOWED
    assert judged(text, ENCLAVE, "Decrypt", good, D="d1", model="tiny") is Verdict.SILENT
    assert judged(text, ENCLAVE, "Decrypt", good) is Verdict.SILENT


def test_an_iam_policy_allows_the_same_and_denies_the_rest() -> None:
    policy = accepted()
    key = "arn:aws-eusc:kms:eusc-de-east-1:111122223333:key/1234abcd"
    text = identity_policy(policy, key)
    parse_policy(text, identity=True)
    statements = json.loads(text)["Statement"]
    assert {json.dumps(one["Resource"]) for one in statements} == {json.dumps(key)}
    assert lint(None, [read_policy(text.encode(), "role")], Expectations(accepted=policy)).findings == ()
    assert "Principal" not in text


def test_as_many_releases_as_a_verifier_accepts_fit_into_a_key_policy() -> None:
    text = key_policy(accepted(MAX_ACCEPTED), principals())
    assert len(text) <= MAX_KEY_POLICY
    parse_policy(text)
    assert lint(read_policy(text.encode(), "key"), [], Expectations()).findings == ()


def test_too_many_releases_for_iam_are_refused_by_number() -> None:
    key = "arn:aws:kms:eu-central-1:111122223333:key/1"
    fitting = max(n for n in range(1, 16) if _fits(n, key))
    assert len("".join(identity_policy(accepted(fitting), key).split())) <= MAX_IDENTITY_POLICY
    with pytest.raises(KmsPolicyRefused, match=str(MAX_IDENTITY_POLICY)):
        identity_policy(accepted(fitting + 1), key)


def _fits(releases: int, key: str) -> bool:
    try:
        identity_policy(accepted(releases), key)
    except KmsPolicyRefused:
        return False
    return True


def test_nitro_tpm_is_bound_by_its_own_registers() -> None:
    # A genuine image shows zero in 12: nothing was added to its command line (GHSA-xrv8-2pf5-f3q7).
    for good in ({4: b"d" * 48, 12: b"e" * 48}, {4: b"d" * 48, 12: bytes(48)}, {7: b"f" * 48}):
        text = key_policy(Policy(frozenset({Platform.NITRO_TPM}), (good,)), principals())
        parse_policy(text)
        assert "kms:RecipientAttestation:NitroTPMPCR" in text
        assert "kms:RecipientAttestation:PCR" not in text
        assert lint(read_policy(text.encode(), "key"), [], Expectations()).findings == ()
    for bad in ({4: b"d" * 48}, {7: b"f" * 48, 1: b"g" * 48}):
        with pytest.raises((KmsPolicyRefused, PolicyInvalid)):
            key_policy(Policy(frozenset({Platform.NITRO_TPM}), (bad,)), principals())


def test_a_release_without_its_configuration_is_refused() -> None:
    bare = Policy(frozenset({Platform.NITRO_ENCLAVE}), (dict.fromkeys((0, 1, 2), b"a" * 48),))
    with pytest.raises(PolicyInvalid, match="16"):
        key_policy(bare, principals())
    with pytest.raises(PolicyInvalid, match="16"):
        identity_policy(bare, "arn:aws:kms:eu-central-1:111122223333:key/1")


BAD_PRINCIPALS = {
    "no enclave": ((), (arn(OPS),), None, ()),
    "no administrator": ((arn(ENCLAVE),), (), None, ()),
    "account": ((arn(ENCLAVE),), ("arn:aws:iam::111122223333:root",), None, ()),
    "everybody": (("*",), (arn(OPS),), None, ()),
    "session": (("arn:aws:sts::111122223333:assumed-role/a/b",), (arn(OPS),), None, ()),
    "pattern": (("arn:aws:iam::111122223333:role/*",), (arn(OPS),), None, ()),
    "other partition": ((arn(ENCLAVE, Partition.AWS_CN),), (arn(OPS),), None, ()),
    "line end": ((arn(ENCLAVE) + "\n",), (arn(OPS),), None, ()),
    "administrator uses": ((arn(ENCLAVE),), (arn(ENCLAVE),), None, ()),
    "custodian uses": ((arn(ENCLAVE),), (arn(OPS),), arn(ENCLAVE), ()),
    "custodian seals": ((arn(ENCLAVE),), (arn(OPS),), arn(SEALER), (arn(SEALER),)),
    "enclave seals": ((arn(ENCLAVE),), (arn(OPS),), None, (arn(ENCLAVE),)),
    "twice": ((arn(ENCLAVE), arn(ENCLAVE)), (arn(OPS),), None, ()),
    "too many": (tuple(arn(f"e{at}") for at in range(33)), (arn(OPS),), None, ()),
}


@pytest.mark.parametrize("fault", BAD_PRINCIPALS)
def test_principals_that_are_not_four_separate_roles_are_refused(fault: str) -> None:
    enclaves, administrators, custodian, sealers = BAD_PRINCIPALS[fault]
    with pytest.raises(KmsPolicyRefused):
        Principals(Partition.AWS, enclaves, administrators, custodian, sealers)


@pytest.mark.parametrize("key", ["alias/mine", "arn:aws:kms:eu-central-1:111122223333:alias/a", "1234", "arn:aws:kms"])
def test_a_key_is_named_by_its_full_arn(key: str) -> None:
    with pytest.raises(KmsPolicyRefused, match="full ARN"):
        identity_policy(accepted(), key)


def test_measurements_come_in_every_form_tools_print() -> None:
    value = "ab" * 48
    plain = {str(at): value for at in (0, 1, 2)}
    printed = {"Measurements": {"HashAlgorithm": "Sha384 { ... }", **{f"PCR{at}": value for at in (0, 1, 2)}}}
    expected = {at: bytes.fromhex(value) for at in (0, 1, 2)}
    for form in (plain, printed, printed["Measurements"]):
        assert sets_from_json(json.dumps(form).encode(), "x", Platform.NITRO_ENCLAVE) == (expected,)
    both = json.dumps([plain, printed]).encode()
    assert sets_from_json(both, "x", Platform.NITRO_ENCLAVE) == (expected, expected)


def test_a_verifier_s_policy_counts_on_the_platform_it_is_for() -> None:
    simulated = accepted(platform=Platform.SIMULATED)
    raw = policy_to_json(simulated)
    assert sets_from_json(raw, "x", Platform.SIMULATED) == simulated.measurements
    with pytest.raises(MeasurementsRefused, match="expected measurements of nitro-enclave, got those of simulated"):
        sets_from_json(raw, "x", Platform.NITRO_ENCLAVE)


@pytest.mark.parametrize("raw", [b"", b"{", b"7", b"[7]", b'{"0": "ab"}', b'{"a": 1, "a": 2}', b'{"PCR99": "ab"}'])
def test_other_json_is_refused(raw: bytes) -> None:
    with pytest.raises((MeasurementsRefused, EvidenceError)):
        sets_from_json(raw, "x", Platform.NITRO_ENCLAVE)


def test_register_16_follows_from_the_configuration() -> None:
    configuration = ConfigDigest(b"c" * 48)
    bare = dict.fromkeys((0, 1, 2), b"a" * 48)
    made = accepted_policy(Platform.NITRO_ENCLAVE, (bare,), configuration)
    assert made.measurements[0][16] == pcr16(configuration)
    assert accepted_policy(Platform.NITRO_ENCLAVE, made.measurements, configuration) == made
    with pytest.raises(MeasurementsRefused, match="register 16 differs"):
        accepted_policy(Platform.NITRO_ENCLAVE, ({**bare, 16: b"x" * 48},), configuration)
    with pytest.raises(MeasurementsRefused, match="register 12"):
        accepted_policy(Platform.NITRO_TPM, ({7: b"a" * 48},), configuration)
