"""Writes the sample policies: `python tests/publish/kms_policies/make.py`. One fault each.

The measurements stand for an image and a configuration; account and roles are AWS's own documentation examples.
"""

import json
from pathlib import Path

from anchorhold.attestation.policy import Policy
from anchorhold.attestation.types import Platform
from anchorhold.publish.kms_policy import Partition, Principals, identity_policy, key_policy

HERE = Path(__file__).parent
ACCOUNT = "arn:aws:iam::111122223333:"
ENCLAVE, OPS, CUSTODIAN, SEALER, OTHER = (
    ACCOUNT + f"role/{name}" for name in ("enclave-parent", "ops", "custodian", "sealer", "somebody")
)
KEY = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
ANOTHER = KEY.replace("1234abcd", "9876fedc")
RECIPIENT = "kms:RecipientAttestation:"
IMAGE, KERNEL, APPLICATION, CONFIGURATION = ("a0" * 48, "a1" * 48, "a2" * 48, "c1" * 48)
SET = {0: bytes.fromhex(IMAGE), 1: bytes.fromhex(KERNEL), 2: bytes.fromhex(APPLICATION), 16: b"\xc1" * 48}
NEXT = {0: b"\xb0" * 48, 1: b"\xb1" * 48, 2: b"\xb2" * 48, 16: b"\xc2" * 48}
TPM = {4: b"\xd4" * 48, 12: b"\xdc" * 48}
PINS = {
    RECIPIENT + "ImageSha384": IMAGE,
    RECIPIENT + "PCR1": KERNEL,
    RECIPIENT + "PCR2": APPLICATION,
    RECIPIENT + "PCR16": CONFIGURATION,
}
Json = dict[str, object]


def allow(sid: str, who: object, *actions: str, **more: object) -> Json:
    return {"Sid": sid, "Effect": "Allow", "Principal": who, "Action": list(actions), "Resource": "*", **more}


def deny(sid: str, *actions: str, **condition: object) -> Json:
    statement = allow(sid, "*", *actions, Effect="Deny")
    return statement | ({"Condition": condition} if condition else {})


def aws(arn: str) -> Json:
    return {"AWS": arn}


def enclave(*actions: str, **condition: object) -> Json:
    return allow("Enclave", aws(ENCLAVE), *(actions or ("kms:Decrypt",)), Condition=condition)


def without(*registers: str) -> Json:
    return {key: value for key, value in PINS.items() if key.removeprefix(RECIPIENT) not in registers}


def policy(*statements: Json) -> Json:
    ops = allow("Ops", aws(OPS), "kms:DescribeKey", "kms:DisableKey")
    return {"Version": "2012-10-17", "Statement": [ops, *statements]}


ATTESTED = enclave(StringEqualsIgnoreCase=PINS)
DENIED = [
    deny(f"Deny{key.rpartition(':')[2]}", "kms:Decrypt", StringNotEqualsIgnoreCase={key: value})
    for key, value in PINS.items()
]


def beside(*statements: Json) -> Json:
    """The attested Allow, and something beside it."""
    return policy(ATTESTED, *statements)


Fault = tuple[Json, list[str]]
ROOT = aws(ACCOUNT + "root")


def ways() -> dict[str, Fault]:
    """The eight ways round."""
    return {
        "1-second-allow": (beside(allow("Second", aws(ENCLAVE), "kms:Decrypt")), ["kms-unattested-allow"]),
        "1-root-delegation": (beside(allow("Account", ROOT, "kms:Decrypt")), ["kms-root-delegation"]),
        "2-reencrypt": (beside(allow("Move", aws(OPS), "kms:ReEncrypt*")), ["kms-reencrypt"]),
        "3-create-grant": (beside(allow("Grants", aws(OPS), "kms:CreateGrant")), ["kms-create-grant"]),
        "4-put-key-policy": (beside(allow("Admin", aws(OPS), "kms:Put*")), ["kms-put-key-policy"]),
        "5-debug-zero": (
            policy(enclave(StringEqualsIgnoreCase=PINS | {RECIPIENT + "ImageSha384": [IMAGE, "0" * 96]})),
            ["kms-debug-zero"],
        ),
        "5-signer-and-role-only": (
            policy(enclave(StringEquals={RECIPIENT + "PCR8": "e8" * 48, RECIPIENT + "PCR3": "e3" * 48})),
            ["kms-image-unpinned"],
        ),
        "6-replicate": (beside(allow("Regions", aws(OPS), "kms:ReplicateKey")), ["kms-replicate"]),
        "6-alias": (beside(allow("Names", aws(OPS), "kms:UpdateAlias")), ["kms-alias"]),
        "7-import": (beside(allow("Material", aws(OPS), "kms:ImportKeyMaterial")), ["kms-import"]),
        "8-data-key": (beside(allow("Seal", aws(OTHER), "kms:GenerateDataKey*")), ["kms-data-key"]),
    }  # fmt: skip


def conditions() -> dict[str, Fault]:
    """Operators that promise more than they hold."""
    return {
        "if-exists": (policy(enclave(StringEqualsIgnoreCaseIfExists=PINS)), ["kms-if-exists"]),
        "for-all-values": (policy(enclave(**{"ForAllValues:StringEquals": PINS})), ["kms-if-exists"]),
        "configuration-if-exists": (
            policy(
                enclave(
                    StringEquals=without("PCR16"),
                    StringEqualsIfExists={RECIPIENT + "PCR16": CONFIGURATION},
                )
            ),
            ["kms-if-exists"],
        ),
        "negated": (policy(enclave(StringNotEquals=dict.fromkeys(PINS, "0" * 96))), ["kms-negated"]),
        "wildcard-measurement": (
            policy(enclave(StringLike=PINS | {RECIPIENT + "PCR2": "a2*"})),
            ["kms-wildcard-measurement"],
        ),
    }  # fmt: skip


def principals() -> dict[str, Fault]:
    """Whom or what an Allow does not name."""
    return {
        "wildcard-principal": (
            policy(allow("Anybody", "*", "kms:Decrypt", Condition={"StringEquals": PINS})),
            ["kms-wildcard-principal"],
        ),
        "not-principal": (
            policy(
                {
                    "Sid": "AllBut",
                    "Effect": "Allow",
                    "NotPrincipal": aws(OTHER),
                    "Action": "kms:Decrypt",
                    "Resource": "*",
                    "Condition": {"StringEquals": PINS},
                }
            ),
            ["kms-not-principal"],
        ),
        "not-action": (
            beside(
                {
                    "Sid": "AllBut",
                    "Effect": "Allow",
                    "Principal": aws(OPS),
                    "NotAction": ["kms:D*", "kms:G*", "kms:R*", "kms:I*", "kms:U*", "kms:PutKeyPolicy", "kms:CreateA*"],
                    "Resource": "*",
                }
            ),
            ["kms-create-grant", "kms-not-action"],
        ),
    }  # fmt: skip


def registers() -> dict[str, Fault]:
    """Registers left out."""
    return {
        "image-only": (
            policy(enclave(StringEquals=without("PCR1", "PCR2"))),
            ["kms-partial-registers"],
        ),
        "no-configuration": (policy(enclave(StringEquals=without("PCR16"))), ["kms-configuration-unpinned"]),
        "no-image": (policy(enclave(StringEquals=without("ImageSha384"))), ["kms-image-unpinned"]),
        "any-document": (
            beside(
                allow("Account", ROOT, "kms:Decrypt"),
                deny("NeedsDocument", "kms:Decrypt", Null={RECIPIENT + "ImageSha384": "true"}),
            ),
            ["kms-image-unpinned"],
        ),
        "mixed-sets": (
            policy(
                enclave(
                    StringEquals={key: [one, one.replace("a", "b").replace("c1", "c2")] for key, one in PINS.items()}
                )
            ),
            ["kms-mixed-sets"],
        ),
    }  # fmt: skip


def denies() -> dict[str, Fault]:
    """Denies that do not close what they seem to."""
    return {
        "deny-joined": (
            policy(
                allow("Enclave", aws(ENCLAVE), "kms:Decrypt"),
                deny("Joined", "kms:Decrypt", StringNotEqualsIgnoreCase=PINS),
            ),
            ["kms-deny-joined", "kms-image-unpinned"],
        ),
        "deny-of-decrypt-only": (
            policy(allow("Enclave", aws(ENCLAVE), "kms:Decrypt", "kms:ReEncryptFrom"), *DENIED),
            ["kms-reencrypt"],
        ),
        "deny-too-narrow": (
            policy(
                allow("Enclave", aws(ENCLAVE), "kms:Decrypt"),
                *(one | {"Principal": aws(OTHER)} for one in DENIED),
            ),
            ["kms-unattested-allow"],
        ),
        "deny-with-a-way-out": (
            policy(
                allow("Enclave", aws(ENCLAVE), "kms:Decrypt"),
                *(
                    one | {"Condition": {**one["Condition"], "StringNotEquals": {"aws:SourceVpc": "vpc-1"}}}  # type: ignore[dict-item]  # a condition is an object
                    for one in DENIED
                ),
            ),
            ["kms-unattested-allow"],
        ),
    }  # fmt: skip


def iam(*statements: Json) -> Json:
    plain = [{name: value for name, value in one.items() if name != "Principal"} for one in statements]
    return {"Version": "2012-10-17", "Statement": plain}


def elsewhere() -> dict[str, Fault]:
    """Denies and conditions that are about another key or another principal than the Allow is open to."""
    anything = allow("Use", "*", "kms:Decrypt")
    one = anything | {"Resource": KEY}
    but_one = {name: value for name, value in deny("Deny", "kms:Decrypt").items() if name != "Resource"}
    names = {"aws:PrincipalArn": ENCLAVE}
    found = ["kms-unattested-allow"]
    return {
        "deny-of-another-key": (
            policy(allow("Enclave", aws(ENCLAVE), "kms:Decrypt"), deny("Other", "kms:Decrypt") | {"Resource": ANOTHER}),
            found,
        ),
        "iam-deny-of-another-key": (iam(anything, deny("Other", "kms:Decrypt") | {"Resource": ANOTHER}), found),
        "iam-one-key-deny-of-another": (iam(one, deny("Other", "kms:Decrypt") | {"Resource": ANOTHER}), found),
        "iam-deny-of-all-but-this-key": (iam(one, but_one | {"NotResource": KEY}), found),
        "iam-allow-names-its-holder": (iam(anything | {"Condition": {"StringEquals": names}}), found),
        "iam-deny-excepts-its-holder": (iam(anything, deny("Rest", "kms:Decrypt", StringNotEquals=names)), found),
        **{
            f"principal-{how}": (
                policy(allow("Anybody", "*", "kms:Decrypt", Condition={"StringEquals": PINS} | condition)),
                ["kms-wildcard-principal"],
            )
            for how, condition in {
                "present": {"Null": {"aws:PrincipalArn": "false"}},
                "if-exists": {"StringEqualsIfExists": names},
                "pattern": {"StringLike": {"aws:PrincipalArn": "*"}},
                "for-all-values": {"ForAllValues:StringEquals": names},
            }.items()
        },
        "principal-present-unattested": (
            policy(allow("Anybody", "*", "kms:Decrypt", Condition={"Null": {"aws:PrincipalArn": "false"}})),
            ["kms-unattested-allow", "kms-wildcard-principal"],
        ),
    }  # fmt: skip


def strange() -> dict[str, Fault]:
    """Keys, values and registers that mean nothing or something else."""
    return {
        "bare-key": (
            beside(
                allow("Account", ROOT, "kms:Decrypt"),
                deny("Nothing", "kms:Decrypt", Null={"kms:RecipientAttestation": "true"}),
            ),
            ["kms-root-delegation", "kms-unknown-key"],
        ),
        "short-measurement": (
            policy(enclave(StringEquals=PINS | {RECIPIENT + "PCR1": "a1" * 32})),
            ["kms-malformed-measurement"],
        ),
        "tpm-one-register": (
            policy(enclave(StringEquals={RECIPIENT + "NitroTPMPCR4": "d4" * 48})),
            ["kms-tpm-registers"],
        ),
        "tpm-firmware": (
            policy(enclave(StringEquals={RECIPIENT + f"NitroTPMPCR{at}": f"d{at}" * 48 for at in (1, 7)})),
            ["kms-tpm-registers"],
        ),
        "tpm-under-enclave-names": (
            policy(enclave(StringEquals={RECIPIENT + f"PCR{at}": f"d{at}" * 48 for at in (4, 7)})),
            ["kms-image-unpinned"],
        ),
    }  # fmt: skip


def whole() -> dict[str, Fault]:
    """Policies as they are met."""
    return {
        "iam-administrator": (
            {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]},
            [
                "kms-alias", "kms-create-grant", "kms-data-key", "kms-import", "kms-put-key-policy", "kms-reencrypt",
                "kms-replicate", "kms-unattested-allow",
            ],
        ),
        "aws-default": (
            {"Version": "2012-10-17", "Id": "key-default-1", "Statement": [allow("IAM", ROOT, "kms:*")]},
            [
                "kms-alias", "kms-create-grant", "kms-data-key", "kms-import", "kms-put-key-policy", "kms-reencrypt",
                "kms-replicate", "kms-root-delegation",
            ],
        ),
    }  # fmt: skip


def faulty() -> dict[str, Fault]:
    """One fault each, and the codes it must be found under."""
    return ways() | conditions() | principals() | registers() | denies() | elsewhere() | strange() | whole()


def clean() -> dict[str, Json]:
    """Nothing to find."""
    enclaves = Policy(frozenset({Platform.NITRO_ENCLAVE}), (SET,))
    both = Policy(frozenset({Platform.NITRO_ENCLAVE}), (SET, NEXT))
    tpm = Policy(frozenset({Platform.NITRO_TPM}), (TPM,))
    sealing = Principals(Partition.AWS, (ENCLAVE,), (OPS,), CUSTODIAN, (SEALER,))
    final = Principals(Partition.AWS, (ENCLAVE,), (OPS,))
    made: Json = json.loads(key_policy(both, final))
    guarded = [one for one in made["Statement"] if one["Effect"] == "Deny"]  # type: ignore[attr-defined]  # parsed above
    single: Json = json.loads(key_policy(enclaves, final))
    single_guards = [one for one in single["Statement"] if one["Effect"] == "Deny"]  # type: ignore[attr-defined]  # likewise
    return {
        "clean-while-sealing": json.loads(key_policy(enclaves, sealing, {"D": "d0" * 48})),
        "clean-two-releases": made,
        "clean-tpm": json.loads(key_policy(tpm, final)),
        "clean-no-denies": beside(),
        "clean-account-behind-denies": {
            "Version": "2012-10-17",
            "Statement": [allow("IAM", aws(ACCOUNT + "root"), "kms:*"), *single_guards],
        },
        "clean-as-printed": {"Policy": json.dumps(policy(ATTESTED, *guarded)), "PolicyName": "default"},
        "clean-iam": json.loads(identity_policy(enclaves, KEY)),
    }


def files() -> dict[str, str]:
    """Every file of this folder that is made here."""
    bad = faulty()
    samples = {name: sample for name, (sample, _) in bad.items()} | clean()
    index = {name: codes for name, (_, codes) in bad.items()} | {name: [] for name in clean()}
    written = {f"{name}.json": json.dumps(sample, indent=1) + "\n" for name, sample in samples.items()}
    return written | {"index.json": json.dumps(index, indent=1) + "\n"}


if __name__ == "__main__":
    for name, text in files().items():
        (HERE / name).write_text(text)
