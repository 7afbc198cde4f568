"""The auditor and tenants' adapters in a boot: each rule of the replay, broken once."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.audit.adapted import KEYS, A, Adapted, B, descriptor, findings, manifest

from anchorhold.attestation.lease import lease_id, sign_lease, verify_lease
from anchorhold.attestation.sealed.descriptor import descriptor_digest
from anchorhold.attestation.transcript.bodies import Death
from anchorhold.attestation.transcript.report import CONTRADICTED, SIMULATED, Code, Status
from anchorhold.attestation.types import ModelDigest, Sha384
from anchorhold.cli.deaths import lives
from anchorhold.publish.signing import load_signer, sign_manifest
from anchorhold.sim.pki import SimulatedPki
from anchorhold.sim.story import MODEL, OWNER_KEY, TTL_MS

Fault = Callable[[Adapted], None]
TTL_S = TTL_MS / 1000


def refused(boot: Adapted, tmp_path: Path) -> tuple[Code, str]:
    """The one contradiction."""
    code, found = findings(boot, tmp_path)
    failed = [one for one in found if one.status is Status.FAIL]
    assert (code, len(failed)) == (CONTRADICTED, 1)
    return failed[0].code, failed[0].detail


# The entry `adapter`


def _twice(boot: Adapted) -> None:
    boot.sealed()
    boot.sealed()


def _three(boot: Adapted) -> None:
    for name in ("legal", "medical", "third"):
        boot.sealed(name)


def _of_a_stranger(boot: Adapted) -> None:
    boot.sealed(signer=load_signer(boot.signers / "stranger"))


def _for_another_base(boot: Adapted) -> None:
    described = descriptor(base=ModelDigest(Sha384(b"x" * 48)))
    raw = manifest(described, KEYS)
    boot.shown(raw, sign_manifest(raw, boot.signer), adapter=descriptor_digest(described))


def _a_model(boot: Adapted) -> None:
    described = descriptor(base=None)
    raw = manifest(described, KEYS)
    boot.shown(raw, sign_manifest(raw, boot.signer), adapter=descriptor_digest(described))


def _another_manifest_s(boot: Adapted) -> None:
    raw = manifest(descriptor("medical"), KEYS)
    boot.shown(raw, sign_manifest(raw, boot.signer))


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        (_twice, Code.ADAPTER_DIFFERS, "open already"),
        (_three, Code.CONFIGURATION_DIFFERS, "at most 2, got 3"),
        (lambda boot: boot.sealed(model=b"x" * 48), Code.CONFIGURATION_DIFFERS, "model differs"),
        (_of_a_stranger, Code.ADAPTER_DIFFERS, "no path to a signer named here"),
        (_for_another_base, Code.ADAPTER_DIFFERS, "base of the adapter differs"),
        (_a_model, Code.ADAPTER_DIFFERS, "base of the adapter differs"),
        (_another_manifest_s, Code.ADAPTER_DIFFERS, "model digest D differs"),
        (lambda boot: boot.sealed(model_id="other"), Code.ADAPTER_DIFFERS, "model id differs"),
        (lambda boot: boot.sealed(keys=("a", "b")), Code.ADAPTER_DIFFERS, "keys differs"),
        (
            lambda boot: boot.sealed(under={"kms": KEYS["kms"], "third": "k"}, adapter=A),
            Code.ADAPTER_DIFFERS,
            "sources differs",
        ),
        (
            lambda boot: boot.sealed(under={**KEYS, "kms": KEYS["kms"].replace("1111", "2222")}),
            Code.ADAPTER_DIFFERS,
            "place of the key of 'kms' differs",
        ),
    ],
)
def test_an_adapter_that_may_not_be_opened_is_a_contradiction(
    boot: Adapted, tmp_path: Path, fault: Fault, code: Code, words: str
) -> None:
    boot.ready()
    fault(boot)
    boot.leave()
    found = refused(boot, tmp_path)
    assert found[0] is code
    assert words in found[1]


def test_a_deployment_that_allows_none_opens_none(pki: SimulatedPki, tmp_path: Path, signers: Path) -> None:
    boot = Adapted(pki, tmp_path / "log", signers, adapters=0)
    boot.ready().sealed()
    boot.leave()
    assert refused(boot, tmp_path) == (Code.CONFIGURATION_DIFFERS, "an adapter, and the configuration allows none")


def test_an_end_makes_room_for_another(boot: Adapted, tmp_path: Path) -> None:
    boot.ready().sealed("legal")
    boot.sealed("medical")
    boot.ended()
    boot.sealed("third")
    boot.close()
    assert findings(boot, tmp_path)[0] == SIMULATED


def _before_the_model_s_shares(boot: Adapted) -> None:
    boot.genesis()
    boot.model()
    boot.obtain("owner")
    boot.sealed()


def test_an_adapter_opened_without_the_model_s_own_leave_is_a_contradiction(boot: Adapted, tmp_path: Path) -> None:
    _before_the_model_s_shares(boot)
    boot.leave()
    assert refused(boot, tmp_path)[0] is Code.SERVED_WITHOUT


def test_an_opening_that_a_slow_log_had_late_is_no_contradiction(boot: Adapted, tmp_path: Path) -> None:
    """The renewal of the model's lease waited behind it."""
    boot.ready()
    boot.clock.forward(seconds=TTL_S + 10)
    boot.sealed()
    boot.ended()
    boot.close()
    assert findings(boot, tmp_path)[0] == SIMULATED


def test_an_end_before_the_entry_of_its_opening_is_none_either(boot: Adapted, tmp_path: Path) -> None:
    """Refused at once, while the opening's own entry waited for a slow log."""
    wiped = boot.clock.ms() + 1_000
    boot.ready()
    boot.clock.forward(seconds=10)
    boot.sealed()
    boot.ended(wiped_ms=wiped)
    boot.close()
    assert findings(boot, tmp_path)[0] == SIMULATED


def test_an_end_before_the_end_before_it_is_a_contradiction(boot: Adapted, tmp_path: Path) -> None:
    boot.ready().sealed()
    boot.ended()
    boot.clock.forward(seconds=10)
    boot.sealed()
    boot.ended(wiped_ms=boot.clock.ms() - 13_000)
    boot.leave()
    assert refused(boot, tmp_path)[0] is Code.ADAPTER_DIFFERS


# Requests, releases and leases of an adapter


def _never_opened(boot: Adapted) -> None:
    boot.adapter = A


def _ended(boot: Adapted) -> None:
    boot.sealed()
    boot.keyed(1)
    boot.ended()
    boot.adapter = A


@pytest.mark.parametrize("before", [_never_opened, _ended])
@pytest.mark.parametrize(
    ("then", "words"),
    [
        (lambda boot: boot.request("kms", 2), "key-request"),
        (lambda boot: boot.key_release(boot.released("kms", 2)), "key-release"),
        (lambda boot: boot.key_lease(boot.released("kms", 2)), "lease"),
        (lambda boot: boot.revoked(), "revoke"),
        (lambda boot: boot.ended(), "adapter-end"),
    ],
)
def test_nothing_of_an_adapter_comes_before_its_entry_or_after_its_end(
    boot: Adapted, tmp_path: Path, before: Fault, then: Fault, words: str
) -> None:
    boot.ready()
    before(boot)
    then(boot)
    boot.leave()
    detail = f"{words} of adapter {A.hex()[:16]}, which is not open"
    assert refused(boot, tmp_path) == (Code.ADAPTER_DIFFERS, detail)


def _statement_of_the_model(boot: Adapted) -> None:
    boot.sealed()
    boot.request("kms", 1)
    boot.key_release(boot.released("kms", 1, changes={"adapter": None}))


def _statement_of_another(boot: Adapted) -> None:
    boot.sealed()
    boot.request("kms", 1)
    boot.key_release(boot.released("kms", 1, changes={"adapter": B}))


def _statement_of_the_adapter_for_the_model(boot: Adapted) -> None:
    boot.sealed()
    boot.adapter = None
    boot.request("kms", 2)
    boot.key_release(boot.released("kms", 2, changes={"adapter": A}))


@pytest.mark.parametrize(
    "fault", [_statement_of_the_model, _statement_of_another, _statement_of_the_adapter_for_the_model]
)
def test_a_release_statement_of_another_key_is_a_contradiction(boot: Adapted, tmp_path: Path, fault: Fault) -> None:
    boot.ready()
    fault(boot)
    boot.leave()
    code, words = refused(boot, tmp_path)
    assert code is Code.RELEASE_REFUSED
    assert "adapter differs" in words


@pytest.mark.parametrize(("of", "says"), [(A, None), (A, B), (None, A)])
def test_a_lease_of_another_key_is_a_contradiction(
    boot: Adapted, tmp_path: Path, of: ModelDigest | None, says: ModelDigest | None
) -> None:
    boot.ready().sealed()
    boot.adapter = of
    boot.request("owner", 2)
    got = boot.released("owner", 2)
    lease = verify_lease(got.lease, OWNER_KEY.public_key())
    got = replace(got, lease=sign_lease(replace(lease, adapter=says), OWNER_KEY))
    boot.key_release(got)
    boot.key_lease(got)
    boot.leave()
    code, words = refused(boot, tmp_path)
    assert code is Code.LEASE_REFUSED
    assert "adapter of the lease differs" in words


def _answered_for_the_model(boot: Adapted) -> None:
    boot.request("kms", 2)
    boot.adapter = None
    boot.key_release(boot.released("kms", 2))


def _leased_for_the_model(boot: Adapted) -> None:
    boot.request("kms", 2)
    got = boot.released("kms", 2)
    boot.key_release(got)
    boot.adapter = None
    boot.key_lease(got)


def _a_new_share(boot: Adapted) -> None:
    boot.request("kms", 2, "share")


def _an_old_number(boot: Adapted) -> None:
    boot.request("kms", 2)
    boot.request("kms", 2)


def _an_old_number_after_the_end(boot: Adapted) -> None:
    boot.keyed(2)
    boot.ended()
    boot.sealed()
    boot.request("kms", 2)


def _a_lease_behind_a_release_before_the_end(boot: Adapted) -> None:
    got = boot.obtain("kms", 2)
    boot.ended()
    boot.sealed()
    boot.key_lease(got)


def _a_release_of_a_request_before_the_end(boot: Adapted) -> None:
    boot.request("kms", 2)
    boot.ended()
    boot.sealed()
    boot.key_release(boot.released("kms", 2))


def _stretched(boot: Adapted) -> None:
    boot.request("kms", 2)
    got = boot.released("kms", 2)
    boot.key_release(got)
    boot.key_lease(got, until_ms=boot.clock.ms() + TTL_MS + 60_000)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (_answered_for_the_model, Code.NO_REQUEST),
        (_leased_for_the_model, Code.LEASE_REFUSED),
        (_a_new_share, Code.ADAPTER_DIFFERS),
        (_an_old_number, Code.NO_REQUEST),
        (_an_old_number_after_the_end, Code.NO_REQUEST),
        (_a_lease_behind_a_release_before_the_end, Code.LEASE_REFUSED),
        (_a_release_of_a_request_before_the_end, Code.NO_REQUEST),
        (_stretched, Code.LEASE_REFUSED),
        (lambda boot: boot.ended(wiped_ms=boot.clock.ms() + 10_000), Code.ADAPTER_DIFFERS),
    ],
)
def test_an_adapter_s_key_is_held_to_the_rules_of_the_model_s(
    boot: Adapted, tmp_path: Path, fault: Fault, code: Code
) -> None:
    boot.ready().sealed()
    fault(boot)
    boot.leave()
    assert refused(boot, tmp_path)[0] is code


# The model's leave is its own


def test_an_adapter_s_lease_does_not_lengthen_the_model_s(boot: Adapted, tmp_path: Path) -> None:
    boot.ready().sealed()
    boot.clock.forward(seconds=TTL_S - 5)
    boot.keyed(1)
    boot.adapter = None
    boot.clock.forward(seconds=60)
    boot.said()
    boot.leave()
    assert refused(boot, tmp_path)[0] is Code.SERVED_WITHOUT


def test_a_boot_does_not_die_of_an_adapter_s_lease(boot: Adapted, tmp_path: Path) -> None:
    boot.ready().sealed()
    named = lease_id(boot.keyed(1))
    boot.die(Death("refused", "owner", boot.clock.ms(), boot.clock.ms(), TTL_MS, named))
    boot.leave()
    assert refused(boot, tmp_path)[0] is Code.LEASE_REFUSED


def test_an_adapter_s_lease_keeps_no_boot_alive_for_who_reads_the_folder(boot: Adapted) -> None:
    boot.ready()
    until = boot.clock.ms() + TTL_MS
    boot.sealed()
    boot.clock.forward(seconds=60)
    boot.keyed(1)
    boot.leave()
    assert [one.until_ms for one in lives(boot.state, MODEL)] == [until]
