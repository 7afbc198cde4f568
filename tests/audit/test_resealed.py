"""The auditor and a boot that seals its model anew: each rule of the replay, broken once."""

from dataclasses import replace
from pathlib import Path

import pytest

from anchorhold.attestation.configuration import NewKey
from anchorhold.attestation.sealed.body import sealed_size
from anchorhold.attestation.sealed.descriptor import Descriptor, ModelFile, descriptor_digest, encode_descriptor
from anchorhold.attestation.sealed.manifest import (
    Body,
    PurposeClass,
    ShareKind,
    ShareRole,
    WrappedShare,
    encode_manifest,
)
from anchorhold.attestation.transcript.bodies import Batch, Close, Model, Reseal
from anchorhold.attestation.transcript.report import SIMULATED, Code, Status
from anchorhold.attestation.types import Sha384
from anchorhold.audit.verify import audit
from anchorhold.sim.pki import SimulatedPki
from anchorhold.sim.story import MODEL, TTL_MS, Story, configuration, sha256

NEW = {"kms": "arn:aws:kms:us-east-1:111122223333:key/new", "owner": "key-2"}
FILES = (ModelFile("config.json", 1), ModelFile("model.safetensors", 1), ModelFile("tokenizer.json", 1))
DESCRIPTOR = encode_descriptor(Descriptor("tiny", "1", FILES, Sha384(b"\x7e" * 48)))
D = descriptor_digest(DESCRIPTOR)


def manifest(keys: dict[str, str] = NEW, salt: bytes = b"s" * 32) -> bytes:
    kinds = {"kms": ShareKind.KMS, "owner": ShareKind.OWNER}
    return encode_manifest(
        DESCRIPTOR,
        salt=salt,
        commitment=b"c" * 32,
        bodies=tuple(Body(file.name, sealed_size(file.size), b"h" * 32) for file in FILES),
        shares=tuple(
            WrappedShare(name, kinds[name], ShareRole.SHARE, PurposeClass.SERVE, key, b"blob", b"c" * 16)
            for name, key in keys.items()
        ),
    )


class Resealing(Story):
    """A boot of class `reseal`, honest where a test does not say otherwise."""

    def model(self) -> None:
        self.write(Model(D, "tiny", sha256(b"m"), sha256(b"s"), ("key-1",)), (b"m", b"s"))

    def keyed(self, *drawn: str) -> None:
        self.genesis()
        self.model()
        for name in drawn:
            self.obtain(name, 1, "share")
        for name in self.sources:
            self.obtain(name, 2)

    def said(self, raw: bytes | None = None, **changes: object) -> None:
        raw = manifest() if raw is None else raw
        body = Reseal(D, sha256(b"m"), sha256(raw), tuple(NEW.values()))
        self.write(replace(body, **changes), (raw,))  # type: ignore[arg-type] # a test names real fields

    def finished(self) -> None:
        self.write(Close("resealed", {}, {"sealed": 1}, ("model-keys",)))
        self.leave()


@pytest.fixture
def boot(pki: SimulatedPki, tmp_path: Path) -> Resealing:
    configured = replace(
        configuration(),
        model=D,
        purposes=("reseal",),
        purpose_class="reseal",
        reseal=tuple(NewKey(*one) for one in NEW.items()),
    )
    return Resealing(pki, tmp_path / "log", configured)


def found(boot: Resealing, tmp_path: Path) -> tuple[int, set[Code], str]:
    report = audit(boot.state, trust_files=[boot.trust(tmp_path)]).report
    failed = {one.code for one in report.findings if one.status is Status.FAIL}
    return report.exit_code, failed, " ".join(one.detail for one in report.findings)


def test_a_whole_resealing_passes_and_the_verdict_says_what_became_of_what(boot: Resealing, tmp_path: Path) -> None:
    boot.keyed("kms", "owner")
    boot.said()
    boot.finished()
    code, failed, words = found(boot, tmp_path)
    assert (code, failed) == (SIMULATED, set())
    assert f"manifest {sha256(b'm').hex()[:16]} became {sha256(manifest()).hex()[:16]}" in words
    assert "key-2" in words


@pytest.mark.parametrize(
    "changes",
    [
        {"before": b"x" * 32},
        {"keys": ("key-2", NEW["kms"])},
        {"model": b"x" * 48},
        {"raw": manifest({**NEW, "owner": "key-1"})},
    ],
)
def test_another_manifest_or_other_keys_than_configured_are_refused(
    boot: Resealing, tmp_path: Path, changes: dict[str, object]
) -> None:
    boot.keyed("kms", "owner")
    raw = changes.pop("raw", None)
    boot.said(raw if isinstance(raw, bytes) else None, **changes)
    boot.finished()
    assert found(boot, tmp_path)[1] == {Code.CONFIGURATION_DIFFERS}


def test_a_resealing_without_a_new_share_of_every_source_is_refused(boot: Resealing, tmp_path: Path) -> None:
    boot.keyed("kms")
    boot.said()
    boot.finished()
    assert found(boot, tmp_path)[1] == {Code.CONFIGURATION_DIFFERS}


def test_a_resealing_after_the_lease_is_refused(boot: Resealing, tmp_path: Path) -> None:
    boot.keyed("kms", "owner")
    boot.clock.forward(seconds=TTL_MS / 1000 + 3)
    boot.said()
    boot.finished()
    assert found(boot, tmp_path)[1] == {Code.SERVED_WITHOUT}


def test_a_second_resealing_of_one_boot_is_refused(boot: Resealing, tmp_path: Path) -> None:
    boot.keyed("kms", "owner")
    boot.said()
    boot.said(manifest(salt=b"t" * 32))
    boot.finished()
    assert found(boot, tmp_path)[1] == {Code.CONFIGURATION_DIFFERS}


def test_a_boot_that_reseals_answers_nobody(boot: Resealing, tmp_path: Path) -> None:
    boot.keyed("kms", "owner")
    now = boot.clock.ms()
    boot.write(Batch(b"r" * 32, 1, b"l" * 32, now, now))
    boot.finished()
    assert found(boot, tmp_path)[1] == {Code.CONFIGURATION_DIFFERS}


def test_a_boot_that_serves_draws_no_share_and_reseals_nothing(pki: SimulatedPki, tmp_path: Path) -> None:
    for ask in ("share", "reseal"):
        story = Story(pki, tmp_path / ask)
        story.serving()
        if ask == "share":
            story.obtain("owner", 2, "share")
        else:
            story.write(Reseal(MODEL, sha256(b"m"), sha256(b"n"), ("a", "b")), (b"n",))
        story.leave()
        report = audit(story.state, trust_files=[story.trust(tmp_path)]).report
        assert [one.code for one in report.findings if one.status is Status.FAIL] == [Code.CONFIGURATION_DIFFERS]
