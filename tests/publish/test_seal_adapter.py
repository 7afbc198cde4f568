"""An adapter is sealed as a model is: its two files alone, for one base; what is no plain LoRA is refused."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.sealed.manifest import PurposeClass, ShareRole
from anchorhold.attestation.types import ModelDigest
from anchorhold.enclave.keys.secret import Secret
from anchorhold.enclave.model.sealed_files import open_sealed, unlock
from anchorhold.publish.errors import FolderRefused, PublishError
from anchorhold.publish.folder import check_folder
from anchorhold.publish.providers import NewShare, ShareProvider, Subject
from anchorhold.publish.seal import Into, SealedModel, SealRequest, seal
from anchorhold.publish.signing import ModelSigner
from anchorhold.publish.tiny import make_tiny_adapter
from anchorhold.publish.verify import verify_sealed

FILES = {"adapter_config.json", "adapter_model.safetensors"}


class KeptShares:
    """A share provider whose one share a test knows."""

    def __init__(self, inner: ShareProvider) -> None:
        self.source, self._inner = inner.source, inner
        self.shares: list[bytes] = []

    def new_share(self, subject: Subject, purposes: Sequence[PurposeClass]) -> NewShare:
        made = self._inner.new_share(subject, purposes)
        self.shares.append(bytes(made.share))
        return made


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = tmp_path / "adapter"
    make_tiny_adapter(folder)
    return folder


def request(adapter: Path, out: Path | Into, base: ModelDigest | None) -> SealRequest:
    return SealRequest(adapter, out, "acme-lora", "1", base=base)


def test_a_sealed_adapter_verifies_names_its_base_and_opens_to_the_bytes_that_went_in(
    sealed: SealedModel,
    adapter: Path,
    tmp_path: Path,
    signer: ModelSigner,
    root: bytes,
    providers: list[ShareProvider],
) -> None:
    sources = [KeptShares(one) for one in providers]
    made = seal(request(adapter, tmp_path / "sealed-adapter", sealed.digest), sources, signer)
    manifest = verify_sealed(made.out, (root,), made.digest).manifest
    assert manifest.descriptor.base == sealed.digest
    assert {file.name for file in manifest.descriptor.files} == FILES

    def fetch(name: str) -> Iterator[bytes]:
        return iter([(made.out / name).read_bytes()])

    names = [one.source for one in manifest.wrapped(ShareRole.SHARE, PurposeClass.SERVE)]
    shares = {one.source: Secret(bytearray(one.shares[0])) for one in sources}
    assert sorted(shares) == names
    with open_sealed(manifest, unlock(manifest, shares), fetch) as opened:
        assert {name: bytes(view) for name, view in opened.files.items()} == {
            path.name: path.read_bytes() for path in adapter.iterdir()
        }


def test_the_same_files_for_another_base_are_another_adapter(
    adapter: Path, tmp_path: Path, signer: ModelSigner, providers: list[ShareProvider]
) -> None:
    bases = [ModelDigest(letter * 48) for letter in (b"a", b"b")]
    made = [seal(request(adapter, Into(tmp_path / "adapters"), base), providers, signer) for base in bases]
    assert made[0].digest != made[1].digest


def test_what_is_sealed_into_a_folder_is_named_by_its_digest_and_never_written_over(
    adapter: Path, tmp_path: Path, signer: ModelSigner, root: bytes, providers: list[ShareProvider]
) -> None:
    into = tmp_path / "adapters"
    made = seal(request(adapter, Into(into), ModelDigest(b"d" * 48)), providers, signer)
    assert made.out == into / made.digest.hex()
    assert verify_sealed(made.out, (root,)).manifest.digest == made.digest
    before = (made.out / "signature").read_bytes()
    with pytest.raises(PublishError, match="there already"):
        seal(request(adapter, Into(into), ModelDigest(b"d" * 48)), providers, signer)
    assert (made.out / "signature").read_bytes() == before
    assert [entry.name for entry in into.iterdir()] == [made.digest.hex()]


@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer.json", "model.safetensors", "README.md", "adapter_model.bin"]
)
def test_anything_beside_an_adapter_s_two_files_is_refused_by_name(adapter: Path, tiny: Path, name: str) -> None:
    kept = tiny / name
    (adapter / name).write_bytes(kept.read_bytes() if kept.exists() else b"x")
    with pytest.raises(FolderRefused, match="not one of an adapter's") as caught:
        check_folder(adapter, adapter=True)
    assert caught.value.name == name


@pytest.mark.parametrize("name", sorted(FILES))
def test_an_adapter_s_file_is_refused_by_name_in_a_model(folder: Path, adapter: Path, name: str) -> None:
    (folder / name).write_bytes((adapter / name).read_bytes())
    with pytest.raises(FolderRefused, match="not on the list") as caught:
        check_folder(folder)
    assert caught.value.name == name


def test_an_adapter_is_no_model_and_a_model_no_adapter(adapter: Path, tiny: Path) -> None:
    with pytest.raises(FolderRefused):
        check_folder(adapter)
    with pytest.raises(FolderRefused):
        check_folder(tiny, adapter=True)


@pytest.mark.parametrize(
    ("name", "expected"), [("adapter_config.json", "is missing"), ("adapter_model.safetensors", "no safetensors file")]
)
def test_half_an_adapter_is_refused(adapter: Path, name: str, expected: str) -> None:
    (adapter / name).unlink()
    with pytest.raises(FolderRefused, match=expected):
        check_folder(adapter, adapter=True)


@pytest.mark.parametrize(
    "change",
    [{"r": 4}, {"use_dora": True}, {"target_modules": ["q_proj"]}, {"modules_to_save": ["lm_head"]}, {"unheard_of": 1}],
    ids=lambda change: next(iter(change)),
)
def test_an_adapter_whose_settings_say_something_else_is_refused_before_a_share_is_asked_for(
    adapter: Path, tmp_path: Path, signer: ModelSigner, providers: list[ShareProvider], change: dict[str, object]
) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    sources = [KeptShares(one) for one in providers]
    with pytest.raises(FolderRefused, match="contents: adapter_"):
        seal(request(adapter, tmp_path / "out", ModelDigest(b"d" * 48)), sources, signer)
    assert not (tmp_path / "out").exists()
    assert not any(one.shares for one in sources)


def test_a_base_of_another_length_seals_nothing(
    adapter: Path, tmp_path: Path, signer: ModelSigner, providers: list[ShareProvider]
) -> None:
    with pytest.raises(EvidenceError, match="base: expected 48 bytes"):
        seal(request(adapter, tmp_path / "out", ModelDigest(b"d" * 32)), providers, signer)
    assert not (tmp_path / "out").exists()
