"""The auditor and kept receipts of answers with an adapter: it was in force for them, or they are contradicted."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.audit.adapted import A, Adapted, B, findings

from anchorhold.attestation.channel.receipt import Asserted
from anchorhold.attestation.lease import sign_lease, verify_lease
from anchorhold.attestation.transcript.report import CONTRADICTED, SIMULATED, Code, Status
from anchorhold.attestation.types import Milliseconds
from anchorhold.sim.story import OWNER_KEY, TTL_MS

Fault = Callable[[Adapted], None]
TTL_S = TTL_MS / 1000


def test_a_receipt_without_an_adapter_names_no_adapter_s_lease(boot: Adapted, tmp_path: Path) -> None:
    boot.ready().sealed()
    lease = boot.keyed(1)
    boot.said(1, lease, adapter=None)
    boot.adapter = None
    boot.close()
    code, found = findings(boot, tmp_path, kept=True)
    assert code == CONTRADICTED
    assert [one.code for one in found if one.status is Status.FAIL] == [Code.RECEIPT_REFUSED]


def at(boot: Adapted, opened_s: float, closed_s: float) -> Asserted:
    """So many seconds from now."""
    now = boot.clock.ms()
    return Asserted(Milliseconds(now + int(opened_s * 1000)), Milliseconds(now + int(closed_s * 1000)), 0, 100)


def open_and_keyed(boot: Adapted) -> None:
    boot.ready().sealed()
    boot.keyed(1)


def _r_never_opened(boot: Adapted) -> None:
    boot.ready()
    boot.said(adapter=A)


def _r_without_a_share(boot: Adapted) -> None:
    boot.ready().sealed()
    boot.obtain("kms", 1)
    boot.obtain("owner", 1, "lease")
    boot.said()


def _r_without_a_lease(boot: Adapted) -> None:
    boot.ready().sealed()
    boot.obtain("kms", 1)
    boot.request("owner", 1)
    boot.key_release(boot.released("owner", 1))
    boot.said()


def _r_before_it_opened(boot: Adapted) -> None:
    boot.ready()
    boot.clock.forward(seconds=30)
    boot.sealed()
    boot.keyed(1)
    boot.said(asserted=at(boot, -20, -10))


def _r_after_its_lease(boot: Adapted) -> None:
    open_and_keyed(boot)
    boot.said(asserted=at(boot, 0, TTL_S + 10))


def _r_after_its_end(boot: Adapted) -> None:
    open_and_keyed(boot)
    boot.ended()
    boot.clock.forward(seconds=10)
    boot.said(adapter=A)


def _r_over_an_end(boot: Adapted) -> None:
    """Its leases ran out and came back, with no end between: what began under the first is not covered throughout."""
    open_and_keyed(boot)
    boot.clock.forward(seconds=TTL_S - 10)
    _renew_the_model(boot)
    boot.clock.forward(seconds=60)
    boot.keyed(2, "lease")
    boot.said(asserted=at(boot, -100, 0))


def _r_of_the_other_adapter(boot: Adapted) -> None:
    open_and_keyed(boot)
    boot.said(adapter=B)


def _r_with_the_other_s_lease(boot: Adapted) -> None:
    open_and_keyed(boot)
    boot.sealed("medical")
    lease = boot.keyed(1)
    boot.said(1, lease, adapter=A)


def _r_after_an_end_that_forgot_the_shares(boot: Adapted) -> None:
    open_and_keyed(boot)
    boot.ended()
    boot.clock.forward(seconds=10)
    boot.sealed()
    boot.keyed(2, "lease")
    boot.said()


def _r_after_an_end_that_forgot_the_leases(boot: Adapted) -> None:
    open_and_keyed(boot)
    boot.ended()
    boot.clock.forward(seconds=10)
    boot.sealed()
    for name in boot.sources:
        boot.request(name, 2)
        boot.key_release(boot.released(name, 2))
    boot.said()


def _r_after_a_renewal_that_was_shorter(boot: Adapted) -> None:
    open_and_keyed(boot)
    boot.request("owner", 2, "lease")
    got = boot.released("owner", 2, "lease")
    lease = replace(verify_lease(got.lease, OWNER_KEY.public_key()), ttl_ms=30_000)
    got = replace(got, lease=sign_lease(lease, OWNER_KEY))
    boot.key_release(got, "lease")
    boot.key_lease(got, ttl_ms=30_000, until_ms=boot.clock.ms() + 30_000)
    boot.said(asserted=at(boot, 0, 60))


def _r_long_after_its_end(boot: Adapted) -> None:
    """Past its leases too: no later copy shows a renewal."""
    open_and_keyed(boot)
    boot.ended()
    boot.said(adapter=A, asserted=at(boot, 0, TTL_S + 10))


def _renew_the_model(boot: Adapted) -> None:
    held, boot.adapter = boot.adapter, None
    for name in boot.sources:
        boot.obtain(name, 2, "lease")
    boot.adapter = held


@pytest.mark.parametrize(
    "fault",
    [
        _r_never_opened,
        _r_without_a_share,
        _r_without_a_lease,
        _r_before_it_opened,
        _r_after_its_lease,
        _r_after_its_end,
        _r_over_an_end,
        _r_of_the_other_adapter,
        _r_with_the_other_s_lease,
        _r_after_an_end_that_forgot_the_shares,
        _r_after_an_end_that_forgot_the_leases,
        _r_long_after_its_end,
        _r_after_a_renewal_that_was_shorter,
    ],
)
@pytest.mark.parametrize("closed", [True, False])
def test_a_receipt_of_an_adapter_that_was_not_in_force_is_contradicted(
    boot: Adapted, tmp_path: Path, fault: Fault, *, closed: bool
) -> None:
    fault(boot)
    if closed:
        boot.close()
    else:
        boot.leave()
    code, found = findings(boot, tmp_path, kept=True)
    lines = [one for one in found if one.subject == "Receipt 1"]
    if fault in (_r_after_its_lease, _r_after_a_renewal_that_was_shorter) and not closed:
        # A renewal may stand in a later copy.
        assert [one.code for one in lines] == [Code.EVIDENCE_MISSING]
        return
    assert code == CONTRADICTED
    assert [one.code for one in found if one.status is Status.FAIL] == [Code.RECEIPT_REFUSED]
    assert [one.code for one in lines] == [Code.RECEIPT_REFUSED]


def _r_before_a_shorter_renewal_came(boot: Adapted) -> None:
    """Its answer was held back, and the lease before was in force meanwhile."""
    open_and_keyed(boot)
    boot.request("owner", 2, "lease")
    got = boot.released("owner", 2, "lease")
    lease = replace(verify_lease(got.lease, OWNER_KEY.public_key()), ttl_ms=10_000)
    got = replace(got, lease=sign_lease(lease, OWNER_KEY))
    boot.clock.forward(seconds=20)
    boot.key_release(got, "lease")
    boot.key_lease(got, ttl_ms=10_000, until_ms=boot.clock.ms() - 10_000)
    boot.said(asserted=at(boot, -6, -4))


def _r_waited_for_the_opening(boot: Adapted) -> None:
    """The first request, which caused it."""
    boot.ready()
    boot.clock.forward(seconds=30)
    open_again(boot, 1)
    boot.said(asserted=at(boot, -20, 0))


def open_again(boot: Adapted, number: int) -> None:
    boot.sealed()
    boot.keyed(number)


def _r_with_a_share_after_the_leases(boot: Adapted) -> None:
    boot.ready().sealed()
    boot.obtain("kms", 1)
    boot.obtain("owner", 1, "lease")
    boot.request("owner", 2)
    boot.key_release(boot.released("owner", 2))
    boot.said()


def _r_over_a_renewal_that_the_log_saw_late(boot: Adapted) -> None:
    """The new lease was asked for while the old one held, and written when the log was back."""
    open_and_keyed(boot)
    sent = boot.clock.ms() + TTL_MS - 20_000
    boot.clock.forward(seconds=TTL_S - 20)
    _renew_the_model(boot)
    boot.clock.forward(seconds=60)
    for name in boot.sources:
        boot.request(name, 2, "lease")
        got = boot.released(name, 2, "lease")
        boot.key_release(got, "lease")
        boot.key_lease(got, until_ms=sent + TTL_MS)
    boot.said(asserted=at(boot, -100, 0))


def _r_refused(boot: Adapted) -> None:
    """A refusal has a receipt too, and uses no adapter: padded or not, it carries an ERROR alone."""
    boot.ready()
    boot.said(adapter=A, records=8, dummies=7)


def _r_cut_at_the_end(boot: Adapted) -> None:
    open_and_keyed(boot)
    boot.ended()
    boot.said(adapter=A, asserted=at(boot, -5, 1))


@pytest.mark.parametrize(
    "honest",
    [
        _r_before_a_shorter_renewal_came,
        _r_waited_for_the_opening,
        _r_with_a_share_after_the_leases,
        _r_over_a_renewal_that_the_log_saw_late,
        _r_refused,
        _r_cut_at_the_end,
    ],
)
def test_an_honest_receipt_of_an_adapter_passes(boot: Adapted, tmp_path: Path, honest: Fault) -> None:
    honest(boot)
    boot.close()
    code, found = findings(boot, tmp_path, kept=True)
    assert [one.code for one in found if one.subject == "Receipt 1"] == [Code.RECEIPT]
    assert code == SIMULATED
