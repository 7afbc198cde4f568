"""A configuration to seal a model anew: one new key for each source, one reason code, and nothing of it in another."""

from dataclasses import replace

import pytest
from tests.attestation.test_configuration import GOOD

from anchorhold.attestation.configuration import NewKey, decode_configuration, encode_configuration
from anchorhold.attestation.errors import EvidenceError

KEYS = (NewKey("kms", "arn:aws:kms:sim-local-1:000000000000:key/2"), NewKey("owner", "k2"))
RESEAL = replace(GOOD, purpose_class="reseal", purposes=("reseal",), reseal=KEYS)


def test_it_reads_back_equal() -> None:
    assert decode_configuration(encode_configuration(RESEAL)) == RESEAL


@pytest.mark.parametrize(
    "changes",
    [
        {"reseal": ()},
        {"reseal": KEYS[:1]},
        {"reseal": (KEYS[1], KEYS[0])},
        {"reseal": (KEYS[0], NewKey("owner", "k1"))},
        {"reseal": (NewKey("kms", "alias/new"), KEYS[1])},
        {"purposes": ("serve",)},
        {"purposes": ("reseal", "serve")},
        {"purpose_class": "serve"},
        {"purpose_class": "serve", "purposes": ("serve",)},
        {"purpose_class": "serve", "purposes": ("serve", "reseal"), "reseal": ()},
        {"purpose_class": "serve", "reseal": ()},
        {"purpose_class": "evaluate"},
    ],
)
def test_keys_class_and_purposes_say_the_same(changes: dict[str, object]) -> None:
    with pytest.raises(EvidenceError):
        encode_configuration(replace(RESEAL, **changes))  # type: ignore[arg-type]  # the test names real fields
