"""An incident about an adapter finds that adapter's uses and leases, and one about its base finds the base's own."""

from pathlib import Path

import pytest
from tests.authority.owner.adapted import ADAPTER, SECOND, Boot, register, share, started

from anchorhold.attestation.binding import Ask
from anchorhold.attestation.types import ModelDigest, Sha384
from anchorhold.authority.export.events import cloudtrail, event_of
from anchorhold.authority.export.follow import Exported
from anchorhold.authority.incident.silence import Silence, owner_silence
from anchorhold.authority.incident.uses import owner_uses
from anchorhold.sim.owner_face import MODEL, TTL_MS, Authority, owner_face


def silence(authority: Authority, model: ModelDigest) -> Silence:
    return owner_silence(authority.whole_journal(), model, authority.clock.ms())


def used(authority: Authority, model: ModelDigest) -> list[tuple[str, str]]:
    return [(one.operation, one.code) for one in owner_uses(authority.whole_journal(), model)]


def prepared(authority: Authority) -> Boot:
    """A boot with its base and two adapters, one of them by its key."""
    authority.register()
    register(authority, ttl_ms=60_000)
    register(authority, "second")
    _, blob = share(authority)
    boot = started(authority)
    assert boot.says(ADAPTER, ask=Ask.KEY, blob=blob) == "granted"
    assert boot.says(SECOND) == "granted"
    return boot


def test_uses_are_found_under_what_they_are_of(tmp_path: Path) -> None:
    with owner_face(tmp_path) as authority:
        boot = prepared(authority)
        authority.order("revoke", model=ADAPTER, reason="stolen")
        assert boot.says(ADAPTER, 2) == "revoked"
        assert used(authority, ADAPTER) == [("share", ""), ("release key", ""), ("deny lease", "revoked")]
        assert used(authority, SECOND) == [("release lease", "")]
        assert used(authority, MODEL) == [("release lease", "")]


def test_an_adapter_s_silence_is_proved_by_its_own_leases_while_its_base_serves_on(tmp_path: Path) -> None:
    with owner_face(tmp_path) as authority:
        boot = prepared(authority)
        authority.order("revoke", model=ADAPTER, reason="stolen")
        assert boot.says(number=2) == "granted"
        assert boot.says(SECOND, 2) == "granted"
        authority.clock.passed += TTL_MS / 1000
        early = silence(authority, ADAPTER)
        assert not early.proved, "its lease is longer than the others, which have ended"
        assert early.renewed_seqs == ()
        authority.clock.passed += 50
        assert silence(authority, ADAPTER).proved
        assert silence(authority, MODEL).why == "no revocation stands"


def test_a_base_s_silence_asks_for_its_own_leases_alone(tmp_path: Path) -> None:
    with owner_face(tmp_path) as authority:
        prepared(authority)
        authority.order("revoke", model=MODEL, reason="stolen")
        authority.clock.passed += TTL_MS / 1000
        assert silence(authority, MODEL).proved
        assert silence(authority, ADAPTER).why == "no revocation stands"


@pytest.mark.parametrize("adapter", [ADAPTER, None])
def test_exported_events_name_the_adapter_s_key_before_its_model_s(tmp_path: Path, adapter: ModelDigest | None) -> None:
    with owner_face(tmp_path) as authority:
        boot = prepared(authority)
        assert boot.says(adapter, 2) == "granted"
        exported = Exported(authority.journal()[-1], Sha384(bytes(48)), b"")
    resources = cloudtrail(event_of(exported, authority="owner", face="owner"))["resources"]
    model = {"ARN": MODEL.hex(), "type": "Anchorhold::Model"}
    assert resources == ([model] if adapter is None else [{"ARN": adapter.hex(), "type": "Anchorhold::Adapter"}, model])
