"""A software keystore that is full says so before its file is touched: what it writes, it reads."""

from pathlib import Path

import pytest

from anchorhold.attestation import canonical
from anchorhold.authority.keystore import Choice, KeystoreFull, init_keystore, open_keystore
from anchorhold.authority.keystore.software import FILE, MAX_FILE, MAX_KEYS


def written(folder: Path, others: dict[str, canonical.Value]) -> bytes:
    """A store's file with one real key, `a`, and these beside it, which nobody uses."""
    store = init_keystore(folder, Choice())
    store.create("a")
    real = canonical.decode((folder / FILE).read_bytes(), "keystore", limit=MAX_FILE)
    assert isinstance(real, dict)
    raw = canonical.encode({**real, **others})
    (folder / FILE).write_bytes(raw)
    return raw


@pytest.mark.parametrize("limit", ["keys", "bytes"])
def test_a_full_store_refuses_one_more_key_and_still_opens(tmp_path: Path, limit: str) -> None:
    if limit == "keys":
        full = {f"b{n}": {"spec": "AES_256", "wrapped": b""} for n in range(MAX_KEYS - 1)}
    else:
        full = {"b": {"spec": "AES_256", "wrapped": bytes(MAX_FILE - 200)}}
    raw = written(tmp_path, full)  # type: ignore[arg-type]  # a dict of dicts is a Value
    store = open_keystore(tmp_path)
    sealed = store.seal("a", b"message", b"")
    with pytest.raises(KeystoreFull, match="expected at most"):
        store.create("z")
    assert (tmp_path / FILE).read_bytes() == raw
    assert open_keystore(tmp_path).open("a", sealed, b"") == b"message"
    store.destroy("b" if limit == "bytes" else "b1")
    store.create("z")
    assert open_keystore(tmp_path).has("z")
