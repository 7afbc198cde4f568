"""Adapters by their digest: out of one folder, by the rules of the sealed model's, and never by a link."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.parent.test_ports import talk

from anchorhold.parent.blobs import Blobs, Refused, open_adapter_blob, open_blob
from anchorhold.parent.health import Health
from anchorhold.wire.frames import Frame
from anchorhold.wire.messages import MAX_NAME, Kind, Port

Run = Callable[[Any], Any]

HEX = "0a" * 48
WEIGHTS = "adapter_model.safetensors.sealed"
UNKNOWN = [Frame(Kind.REFUSED, b"unknown-blob")]
FILES = {"manifest": b"the manifest", "signature": b"the signature", WEIGHTS: b"ciphertext", "adapter": b"no folder"}


def write_adapter(folder: Path) -> None:
    (folder / "signed").mkdir(parents=True)
    for name, raw in FILES.items():
        (folder / ("signed/manifest" if name == "manifest" else name)).write_bytes(raw)


@pytest.fixture
def adapters(tmp_path: Path) -> Path:
    folder = tmp_path / "adapters"
    write_adapter(folder / HEX)
    (tmp_path / "secret").write_bytes(b"SECRET")
    return folder


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "signed").mkdir(parents=True)
    (folder / "signed" / "manifest").write_bytes(b"the model's")
    (folder / "adapter").write_bytes(b"a file of the model's")
    return folder


def fetched(window: Path, run: Run, blobs: Blobs, name: str | bytes) -> list[Frame]:
    raw = name if isinstance(name, bytes) else name.encode()
    answers: list[Frame] = run(talk(window, Port.BLOBS, blobs.handle, (Kind.FETCH, raw)))
    return answers


@pytest.mark.parametrize("name", FILES)
def test_an_adapter_s_files_come_out_of_the_folder_of_its_digest(
    window: Path, run: Run, sealed: Path, adapters: Path, name: str
) -> None:
    answers = fetched(window, run, Blobs(sealed, Health(len), None, adapters), f"adapter/{HEX}/{name}")
    assert b"".join(frame.body for frame in answers if frame.kind == Kind.CHUNK) == FILES[name]
    assert answers[-1].kind == Kind.END


def test_the_model_s_own_files_come_as_before_beside_adapters(
    window: Path, run: Run, sealed: Path, adapters: Path
) -> None:
    blobs = Blobs(sealed, Health(len), None, adapters)
    assert fetched(window, run, blobs, "manifest")[1].body == b"the model's"


def test_without_the_setting_there_is_no_adapter(window: Path, run: Run, sealed: Path, adapters: Path) -> None:
    (sealed / "adapters").symlink_to(adapters)
    assert fetched(window, run, Blobs(sealed, Health(len)), f"adapter/{HEX}/manifest") == UNKNOWN


REFUSED = [
    f"adapter/{'0b' * 48}/manifest",
    f"adapter/{HEX.upper()}/manifest",
    f"adapter/{HEX[:-2]}/manifest",
    f"adapter/{HEX}0a/manifest",
    f"adapter/{HEX}",
    f"adapter/{HEX}/",
    f"adapter/{HEX}/..",
    f"adapter/{HEX}/../{HEX}/manifest",
    f"adapter/{HEX}/../../secret",
    f"adapter/{HEX}/signed/manifest",
    f"adapter/{HEX}//manifest",
    f"adapter/{HEX}/manifest/",
    f"adapter/{HEX}/signed",
    f"adapter/{HEX}/absent",
    f"adapter/{HEX}/.hidden",
    f"adapter/{HEX}/manifest\n",
    f"adapter/{HEX}\n/manifest",
    f"adapter/{HEX}/manifest\0",
    f"adapter//{HEX}/manifest",
    "adapter/../secret",
    "adapter/",
    "adapter//manifest",
    f"ADAPTER/{HEX}/manifest",
    f"/adapter/{HEX}/manifest",
    f"{HEX}/manifest",
]


@pytest.mark.parametrize("name", REFUSED)
def test_no_other_name_leads_to_a_file(window: Path, run: Run, sealed: Path, adapters: Path, name: str) -> None:
    write_adapter(adapters / HEX.upper())
    write_adapter(adapters / HEX[:-2])
    assert fetched(window, run, Blobs(sealed, Health(len), None, adapters), name) == UNKNOWN
    with pytest.raises(Refused):
        open_adapter_blob(adapters, name.encode())


def test_a_name_over_the_limit_is_refused_though_its_file_is_there(adapters: Path) -> None:
    longest = "n" * (MAX_NAME - len(f"adapter/{HEX}/"))
    for name in (longest, longest + "n"):
        (adapters / HEX / name).write_bytes(b"x")
    os.close(open_adapter_blob(adapters, f"adapter/{HEX}/{longest}".encode()))
    with pytest.raises(Refused):
        open_adapter_blob(adapters, f"adapter/{HEX}/{longest}n".encode())


def _hex_is_a_link(adapters: Path) -> str:
    (adapters / ("0c" * 48)).symlink_to(adapters / HEX)
    return f"adapter/{'0c' * 48}/manifest"


def _hex_is_a_file(adapters: Path) -> str:
    (adapters / ("0c" * 48)).write_bytes(b"x")
    return f"adapter/{'0c' * 48}/manifest"


def _signed_is_a_link(adapters: Path) -> str:
    (adapters / HEX / "signed").rename(adapters / "elsewhere")
    (adapters / HEX / "signed").symlink_to(adapters / "elsewhere")
    return f"adapter/{HEX}/manifest"


def _the_manifest_is_a_link(adapters: Path) -> str:
    (adapters / HEX / "signed" / "manifest").unlink()
    (adapters / HEX / "signed" / "manifest").symlink_to(adapters.parent / "secret")
    return f"adapter/{HEX}/manifest"


def _a_body_is_a_link(adapters: Path) -> str:
    (adapters / HEX / "link").symlink_to(adapters.parent / "secret")
    return f"adapter/{HEX}/link"


def _a_body_is_a_pipe(adapters: Path) -> str:
    os.mkfifo(adapters / HEX / "pipe")
    return f"adapter/{HEX}/pipe"


def _a_body_is_a_folder(adapters: Path) -> str:
    (adapters / HEX / "folder").mkdir()
    return f"adapter/{HEX}/folder"


@pytest.mark.parametrize(
    "put",
    [
        _hex_is_a_link,
        _hex_is_a_file,
        _signed_is_a_link,
        _the_manifest_is_a_link,
        _a_body_is_a_link,
        _a_body_is_a_pipe,
        _a_body_is_a_folder,
    ],
    ids=lambda put: str(put.__name__).strip("_"),
)
def test_a_link_is_followed_at_no_component_and_only_regular_files_come(
    window: Path, run: Run, sealed: Path, adapters: Path, put: Callable[[Path], str]
) -> None:
    assert fetched(window, run, Blobs(sealed, Health(len), None, adapters), put(adapters)) == UNKNOWN


def test_the_model_s_manifest_is_not_reached_through_a_link_either(sealed: Path) -> None:
    os.close(open_blob(sealed, b"manifest"))
    (sealed / "signed").rename(sealed / "elsewhere")
    (sealed / "signed").symlink_to(sealed / "elsewhere")
    with pytest.raises(Refused):
        open_blob(sealed, b"manifest")


def test_no_descriptor_stays_open(adapters: Path) -> None:
    folder = adapters.parent.resolve()
    with (adapters / HEX / "signature").open("rb"):
        assert open_under(folder) == [folder / "adapters" / HEX / "signature"], "what is open is seen"
    for name in REFUSED:
        with pytest.raises(Refused):
            open_adapter_blob(adapters, name.encode())
    os.close(open_adapter_blob(adapters, f"adapter/{HEX}/manifest".encode()))
    assert open_under(folder) == []


def open_under(folder: Path) -> list[Path]:
    """What this process has open there: its other descriptors come and go with what earlier tests left behind."""
    found: list[Path] = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            found.append(descriptor.readlink())
    return [one for one in found if one.is_relative_to(folder)]
