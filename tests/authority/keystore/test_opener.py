"""Which keystore a state folder has, and what does not open it (docs/spec/keystores.md 1 and 2)."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from anchorhold.authority.keystore import Choice, FullKeystore, KeystoreError, Kind, init_keystore, open_keystore
from anchorhold.authority.keystore.opener import FILE
from anchorhold.authority.keystore.secret_file import Ask

PASSPHRASE = "correct horse battery staple"


def made(folder: Path, chosen: Choice) -> FullKeystore:
    folder.mkdir()
    store = init_keystore(folder, chosen)
    store.create("key")
    return store


def typed(passphrase: str) -> Ask:
    return lambda _: passphrase


def asked(passphrase: str) -> Choice:
    return Choice(Kind.PASSPHRASE, ask=typed(passphrase))


def test_a_stores_file_names_no_secret_and_is_never_overwritten(tmp_path: Path) -> None:
    place = tmp_path / "state"
    made(place, asked(PASSPHRASE))
    said = json.loads((place / FILE).read_text())
    assert set(said) == {"v", "kind", "salt", "scrypt"}
    assert said["scrypt"] == {"n": 131_072, "r": 8, "p": 1}
    for file in place.iterdir():
        assert PASSPHRASE.encode() not in file.read_bytes()
        assert file.stat().st_mode & 0o077 == 0
    with pytest.raises(FileExistsError):
        init_keystore(place, Choice())


def test_another_passphrase_opens_nothing(tmp_path: Path) -> None:
    place = tmp_path / "state"
    sealed = made(place, asked(PASSPHRASE)).seal("key", b"m", b"")
    assert open_keystore(place, lambda _: PASSPHRASE).open("key", sealed, b"") == b"m"
    for wrong in (PASSPHRASE + " ", "another passphrase", "short", ""):
        with pytest.raises(KeystoreError):
            open_keystore(place, typed(wrong))
    with pytest.raises(KeystoreError, match="nobody to ask"):
        open_keystore(place)


def test_a_short_passphrase_makes_no_store(tmp_path: Path) -> None:
    with pytest.raises(KeystoreError, match="12 characters"):
        made(tmp_path / "state", asked("elevenchars"))


def test_a_copied_folder_does_not_open_without_the_key_that_lies_elsewhere(tmp_path: Path) -> None:
    place, key = tmp_path / "state", tmp_path / "usb" / "master.key"
    key.parent.mkdir()
    sealed = made(place, Choice(Kind.KEY_FILE, key_file=key)).seal("key", b"m", b"")
    assert key.stat().st_mode & 0o777 == 0o600
    assert key.read_bytes() not in b"".join(file.read_bytes() for file in place.iterdir())
    assert open_keystore(place).open("key", sealed, b"") == b"m"
    key.chmod(0o640)
    with pytest.raises(KeystoreError, match="expected mode 0600, got 0640"):
        open_keystore(place)
    key.rename(tmp_path / "away")
    with pytest.raises(KeystoreError, match=r"master\.key"):
        open_keystore(place)


def test_an_existing_key_file_is_never_overwritten(tmp_path: Path) -> None:
    key = tmp_path / "master.key"
    key.write_bytes(b"the key of another authority")
    with pytest.raises(FileExistsError):
        made(tmp_path / "state", Choice(Kind.KEY_FILE, key_file=key))
    assert key.read_bytes() == b"the key of another authority"


CHANGES: dict[str, Callable[[dict[str, object]], object]] = {
    "a cheaper scrypt": lambda said: said.update(scrypt={"n": 2, "r": 8, "p": 1}),
    "a scrypt that takes all memory": lambda said: said.update(scrypt={"n": 1 << 30, "r": 8, "p": 1}),
    "no scrypt": lambda said: said.pop("scrypt"),
    "another salt": lambda said: said.update(salt="00" * 32),
    "a short salt": lambda said: said.update(salt="00"),
    "another version": lambda said: said.update(v=2),
    "another kind": lambda said: said.update(kind="software-beside"),
    "a kind that is none": lambda said: said.update(kind="none"),
    "a token without its place": lambda said: said.update(kind="pkcs11"),
    "an unknown member": lambda said: said.update(extra="x"),
    "a number for a text": lambda said: said.update(passphrase_file=1),
}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("original") / "state"
    made(place, asked(PASSPHRASE))
    return place


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_description_opens_nothing(original: Path, tmp_path: Path, change: str) -> None:
    place = tmp_path / "state"
    shutil.copytree(original, place)
    said = json.loads((place / FILE).read_text())
    CHANGES[change](said)
    (place / FILE).write_text(json.dumps(said))
    with pytest.raises(KeystoreError):
        open_keystore(place, lambda _: PASSPHRASE)


def test_a_secret_comes_from_a_private_file_of_one_line(tmp_path: Path) -> None:
    passphrase = tmp_path / "passphrase"
    passphrase.touch(mode=0o600)
    passphrase.write_text(PASSPHRASE + "\n")
    place = tmp_path / "state"
    sealed = made(place, Choice(Kind.PASSPHRASE, passphrase_file=passphrase)).seal("key", b"m", b"")
    assert open_keystore(place).open("key", sealed, b"") == b"m"
    for content in ("", "\n", PASSPHRASE + "\nmore\n", "x" * 2_000):
        passphrase.write_text(content)
        with pytest.raises(KeystoreError):
            open_keystore(place)
    passphrase.write_text(PASSPHRASE)
    passphrase.chmod(0o604)
    with pytest.raises(KeystoreError, match="0604"):
        open_keystore(place)


def test_a_key_moved_under_another_handle_does_not_open(tmp_path: Path) -> None:
    place = tmp_path / "state"
    store = made(place, Choice())
    store.create("other")
    sealed = store.seal("key", b"m", b"")
    raw = (place / "keystore.cbor").read_bytes()
    swapped = raw.replace(b"\x65other", b"\x63key").replace(b"\x63key", b"\x65other", 1)
    (place / "keystore.cbor").write_bytes(swapped)
    with pytest.raises(KeystoreError):
        open_keystore(place).open("key", sealed, b"")
