"""What the auditor says of honest boots with adapters."""

from pathlib import Path

from tests.audit.adapted import KEYS, A, Adapted, B, descriptor, findings, manifest

from anchorhold.attestation.transcript.bodies import KeyDeny
from anchorhold.attestation.transcript.check import MAX_ADAPTERS
from anchorhold.attestation.transcript.report import LIMITED, SIMULATED, Code, Status
from anchorhold.sim.story import MODEL


def used(boot: Adapted) -> None:
    """Opened, renewed, ended, opened again under numbers that go on; answers with it and without."""
    boot.ready().sealed()
    lease = boot.keyed(1)
    boot.clock.forward(seconds=5)
    boot.said(1, lease)
    boot.clock.forward(seconds=60)
    boot.keyed(2, "lease")
    boot.said(2)
    boot.revoked()
    boot.ended()
    boot.clock.forward(seconds=5)
    boot.said(3)
    boot.sealed()
    boot.keyed(3)
    boot.said(4)
    boot.ended(reason="idle", source="enclave")


def test_an_adapter_opened_renewed_ended_and_opened_again_passes_and_the_verdict_says_so(
    boot: Adapted, tmp_path: Path
) -> None:
    used(boot)
    boot.close()
    code, found = findings(boot, tmp_path, kept=True)
    assert code == SIMULATED
    words = (
        f"adapter {A.hex()[:16]} legal under {KEYS['kms']}, {KEYS['owner']}: opened 2 times, 6 releases, 0 refusals, 6 "
        f"leases; ended: idle by enclave, wiped at {boot.clock.ms()} ms"
    )
    assert [one.detail for one in found if one.code is Code.ADAPTERS] == [words]
    # The model's own are counted apart.
    details = {one.detail for one in found}
    assert "2 releases, 0 refusals, each with its request" in details
    assert "2 key leases, 1 log leases" in details
    assert [one.detail.endswith(f"for adapter {A.hex()[:16]}") for one in found if one.code is Code.RECEIPT] == [
        True,
        True,
        False,
        True,
    ]


def test_two_adapters_have_numbers_and_lines_of_their_own(boot: Adapted, tmp_path: Path) -> None:
    boot.ready().sealed()
    boot.keyed(1)
    boot.sealed("medical")
    boot.keyed(1)
    boot.close()
    code, found = findings(boot, tmp_path)
    words = [one.detail for one in found if one.code is Code.ADAPTERS]
    assert code == SIMULATED
    assert [one.split()[1] for one in words] == [A.hex()[:16], B.hex()[:16]]
    assert all(one.endswith("2 leases; open") for one in words)


def test_a_request_cut_off_by_the_adapter_s_end_is_no_limit_but_a_skipped_one_is(boot: Adapted, tmp_path: Path) -> None:
    boot.ready().sealed()
    boot.request("kms", 1)
    boot.request("kms", 2)
    boot.ended()
    boot.close()
    code, found = findings(boot, tmp_path)
    assert code == LIMITED
    assert [one.detail for one in found if one.status is Status.LIMIT] == ["1 key requests without an outcome"]


def test_a_manifest_that_is_not_in_this_copy_is_a_limit(boot: Adapted, tmp_path: Path) -> None:
    boot.ready().sealed()
    boot.close()
    gone = manifest(descriptor(), KEYS)
    for path in (boot.state / "cas").rglob("*"):
        if path.is_file() and path.read_bytes() == gone:
            path.unlink()
    code, found = findings(boot, tmp_path)
    assert code == LIMITED
    assert [one.code for one in found if one.status is Status.LIMIT] == [Code.EVIDENCE_MISSING]


def test_a_refused_adapter_is_told_with_its_refusal_and_frees_its_place(boot: Adapted, tmp_path: Path) -> None:
    boot.ready().sealed()
    boot.request("owner", 1)
    boot.write(KeyDeny("owner", "Owner Ltd", "key", MODEL, ("chat",), 1, "tenant", None, None, {}, A))
    boot.ended()
    boot.said(1, adapter=A, records=1)  # the refusal
    boot.close()
    code, found = findings(boot, tmp_path, kept=True)
    assert code == SIMULATED
    said = next(one.detail for one in found if one.code is Code.ADAPTERS)
    assert "opened 1 times, 0 releases, 1 refusals, 0 leases; ended: refused by owner" in said


def test_many_adapters_are_counted_from_some_number_on(boot: Adapted, tmp_path: Path) -> None:
    boot.ready()
    for number in range(MAX_ADAPTERS + 3):
        boot.sealed(f"adapter-{number}")
        boot.ended()
    boot.close()
    code, found = findings(boot, tmp_path)
    said = [one.detail for one in found if one.code is Code.ADAPTERS]
    assert code == SIMULATED
    assert len(said) == MAX_ADAPTERS + 1
    assert said[-1] == "3 more adapters"
