"""What is true of a token beyond the contract of every store (docs/spec/keystores.md 3)."""

import json
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pkcs11
import pytest
from pkcs11 import Attribute, KeyType, ObjectClass, exceptions
from tests.authority.hsm import SoftHsm, token_for_tests

from anchorhold.authority.keystore import (
    Choice,
    IvSource,
    KeystoreBusy,
    KeystoreError,
    Kind,
    NotSupported,
    init_keystore,
    open_keystore,
)
from anchorhold.authority.keystore.sessions import _LOGINS, Line, Sessions, TokenPlace


@pytest.fixture
def hsm() -> SoftHsm:
    return token_for_tests()


def chosen(hsm: SoftHsm, **changes: object) -> Choice:
    plain = Choice(Kind.PKCS11, module=hsm.module, token=hsm.label, pin_file=hsm.pin_file)
    return replace(plain, **changes)  # type: ignore[arg-type]  # the test names the fields


def sessions(hsm: SoftHsm, **limits: float) -> Sessions:
    return Sessions(TokenPlace(hsm.module, hsm.label), hsm.pin_file.read_text().strip(), **limits)  # type: ignore[arg-type]  # limit and wait_s


def keys(line: Line) -> list[pkcs11.Key]:
    kinds = (ObjectClass.SECRET_KEY, ObjectClass.PRIVATE_KEY)
    found = [one for kind in kinds for one in line.session.get_objects({Attribute.CLASS: kind})]
    return [one for one in found if isinstance(one, pkcs11.Key)]


def test_no_key_leaves_the_token(hsm: SoftHsm, tmp_path: Path) -> None:
    store = init_keystore(tmp_path, chosen(hsm))
    store.create("aes")
    store.create_pair("ec", "ECC_NIST_P384")
    store.create_pair("rsa", "RSA_2048")
    store.import_key("imported", bytes(32))

    prefix = json.loads((tmp_path / "keystore.json").read_text())["prefix"] + "/"

    def look(line: Line) -> int:
        wrapping = line.session.generate_key(KeyType.AES, 256, store=False)
        ours = [key for key in keys(line) if key.label.startswith(prefix)]
        for key in ours:
            assert (key[Attribute.EXTRACTABLE], key[Attribute.SENSITIVE]) == (False, True)
            secret = Attribute.PRIVATE_EXPONENT if key.key_type is KeyType.RSA else Attribute.VALUE
            with pytest.raises(exceptions.AttributeSensitive):
                key[secret]
            with pytest.raises(exceptions.KeyUnextractable):
                wrapping.wrap_key(key)  # type: ignore[attr-defined]  # an AES key wraps
        return len(ours)

    assert sessions(hsm).use(look) == 4


def test_states_that_share_a_token_do_not_meet_each_others_keys(hsm: SoftHsm, tmp_path: Path) -> None:
    stores = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        stores.append(init_keystore(tmp_path / name, chosen(hsm)))
        stores[-1].create("journal")
    sealed = stores[0].seal("journal", b"m", b"")
    with pytest.raises(Exception, match="do not open"):
        stores[1].open("journal", sealed, b"")
    stores[1].destroy("journal")
    assert stores[0].open("journal", sealed, b"") == b"m"


def test_a_token_that_may_draw_its_own_iv_says_which(hsm: SoftHsm, tmp_path: Path) -> None:
    store = init_keystore(tmp_path, chosen(hsm, iv_source=IvSource.TOKEN))
    store.create("key")
    assert store.open("key", store.seal("key", b"m", b"a"), b"a") == b"m"
    drawn = {store.encrypt("key", b"", b"", None)[0] for _ in range(20)}
    assert len(drawn) == 20
    assert bytes(12) not in drawn
    with pytest.raises(NotSupported):
        store.encrypt("key", b"", b"", b"i" * 12)


def test_a_token_that_must_draw_its_iv_and_does_not_is_refused_before_any_key_is_used(
    hsm: SoftHsm, tmp_path: Path
) -> None:
    # SoftHSM takes the zeros as they are: sealing on would repeat an IV under one key.
    with pytest.raises(KeystoreError, match="no IV of its own"):
        init_keystore(tmp_path, chosen(hsm, iv_source=IvSource.ZERO))


def test_a_wait_for_a_session_ends(hsm: SoftHsm) -> None:
    pool = sessions(hsm, limit=1, wait_s=0.05)
    taken, done = threading.Event(), threading.Event()

    def hold(_: Line) -> None:
        taken.set()
        done.wait(10)

    holder = threading.Thread(target=pool.use, args=(hold,))
    holder.start()
    assert taken.wait(10)
    with pytest.raises(KeystoreBusy):
        pool.use(lambda _: None)
    done.set()
    holder.join()
    assert pool.use(lambda line: len(keys(line))) >= 0


def test_a_broken_session_is_replaced(hsm: SoftHsm, tmp_path: Path) -> None:
    pool = sessions(hsm, limit=1)
    pool.use(lambda line: line.session.close())
    assert pool.use(lambda line: line.session.generate_random(64)) != b""
    broken: list[Line] = []

    def once(line: Line) -> bytes:
        if not broken:
            broken.append(line)
            raise exceptions.DeviceError
        return line.session.generate_random(64)

    with pytest.raises(KeystoreError, match="DeviceError"):
        pool.use(once)
    pool.use(broken.append)
    assert broken[0].session is not broken[1].session


def test_a_lost_login_is_no_lost_key(hsm: SoftHsm, tmp_path: Path) -> None:
    store = init_keystore(tmp_path, chosen(hsm))
    store.create("key")
    sealed = store.seal("key", b"m", b"")

    def log_out() -> None:
        """Closing the session that logged in logs the whole process out."""
        _LOGINS[str(hsm.module), hsm.label].close()

    log_out()
    assert store.open("key", sealed, b"") == b"m"
    log_out()
    assert store.has("key")
    log_out()
    store.create("another")
    log_out()
    store.destroy("another")
    assert not store.has("another")


def test_a_key_remembered_by_one_session_and_destroyed_by_another_is_gone(hsm: SoftHsm, tmp_path: Path) -> None:
    one, two = init_keystore(tmp_path, chosen(hsm)), open_keystore(tmp_path)
    one.create("key")
    sealed = one.seal("key", b"m", b"")
    assert two.open("key", sealed, b"") == b"m"
    one.destroy("key")
    with pytest.raises(KeyError):
        two.open("key", sealed, b"")


def test_a_module_or_token_that_is_not_there_is_refused_by_name(hsm: SoftHsm, tmp_path: Path) -> None:
    with pytest.raises(KeystoreError, match="NoSuchToken"):
        init_keystore(tmp_path, chosen(hsm, token="another"))
    with pytest.raises(KeystoreError, match=r"none\.so"):
        init_keystore(tmp_path, chosen(hsm, module=Path("/none.so")))
    with pytest.raises(KeystoreError, match="token: expected a label"):
        init_keystore(tmp_path, chosen(hsm, token="t" * 33))
    hsm.pin_file.chmod(0o644)
    with pytest.raises(KeystoreError, match="0644"):
        init_keystore(tmp_path, chosen(hsm))
    hsm.pin_file.chmod(0o600)
    assert list(tmp_path.iterdir()) == []


_OPENS = """
import sys
from pathlib import Path
from anchorhold.authority.keystore import KeystoreError, open_keystore
try:
    print(open_keystore(Path(sys.argv[1])).has("key"))
except KeystoreError as error:
    print(error)
"""


@pytest.mark.slow
def test_another_process_sees_a_destroyed_key_gone_and_a_wrong_pin_is_refused(hsm: SoftHsm, tmp_path: Path) -> None:
    def elsewhere() -> str:
        done = subprocess.run([sys.executable, "-c", _OPENS, str(tmp_path)], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    pin = tmp_path / "pin"
    pin.touch(mode=0o600)
    pin.write_text(hsm.pin_file.read_text())
    store = init_keystore(tmp_path, chosen(hsm, pin_file=pin))
    store.create("key")
    assert elsewhere() == "True"
    store.destroy("key")
    assert elsewhere() == "False"
    pin.write_text("00000000\n")
    assert elsewhere() == f"token {hsm.label!r} refuses: PinIncorrect"
