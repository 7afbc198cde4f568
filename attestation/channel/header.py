"""The clear header of a request, the slots beside it, and everything derived from them (DESIGN 3.2).

The gateway reads the header to route; the enclave believes it only once a slot opened under its digest and `commit`
agrees.
"""

from dataclasses import dataclass

from anchorhold.attestation import labels
from anchorhold.attestation.canonical import Value, check_map, decode, decode_map, encode
from anchorhold.attestation.channel.errors import SlotInvalid
from anchorhold.attestation.channel.padding import Padding
from anchorhold.attestation.channel.seal import ENCAPSULATION, OVERHEAD, SUITE, HybridPrivateKey, seal
from anchorhold.attestation.digest import hkdf, hkdf_expand, labelled, length_prefixed, same
from anchorhold.attestation.errors import Malformed, Mismatch, TooLarge
from anchorhold.attestation.types import KEY_ID_BYTES, KeyId, Milliseconds, Sha384, StatementDigest

VERSION = 1
SECRET = 32  # bytes of K, of each R_i, of a commitment and of the enclave's nonce
MAX_SLOTS = 8
SLOT_BYTES = OVERHEAD + 2 * SECRET
MAX_ALIAS = 128  # bytes of UTF-8
MAX_ADMISSION = 256  # bytes; opaque to everybody but the gateway
MAX_DEADLINE = Milliseconds(600_000)  # DESIGN 12.11: 10 min
MAX_HEADER = 2_048
MAX_OPENING = MAX_HEADER + MAX_SLOTS * (SLOT_BYTES + 8) + 64


@dataclass(frozen=True, slots=True)
class Header:
    """What a request says in clear. `deadline` is milliseconds left, counted from arrival on each side's own clock."""

    targets: tuple[KeyId, ...]
    alias: str
    admission: bytes
    padding: Padding
    deadline: Milliseconds
    commit: bytes


@dataclass(frozen=True, slots=True)
class Opening:
    """The first frame of a request, parsed; nothing in it is believed yet."""

    raw_header: bytes
    header: Header
    slots: tuple[bytes, ...]

    @property
    def digest(self) -> Sha384:
        return header_digest(self.raw_header)


def encode_header(header: Header) -> bytes:
    return encode(
        {
            "v": VERSION,
            "targets": list(header.targets),
            "alias": header.alias,
            "admission": header.admission,
            "padding": header.padding.value,
            "deadline": header.deadline,
            "commit": header.commit,
        }
    )


def decode_header(raw: bytes) -> Header:
    """Raises Malformed (or one of its kinds)."""
    fields: dict[str, type | tuple[type, ...]] = {
        "v": int,
        "targets": list,
        "alias": str,
        "admission": bytes,
        "padding": str,
        "deadline": int,
        "commit": bytes,
    }
    members = decode_map(raw, "request header", limit=MAX_HEADER, fields=fields)
    version, targets, alias = members["v"], members["targets"], members["alias"]
    admission, deadline, commit = members["admission"], members["deadline"], members["commit"]
    assert isinstance(targets, list)
    assert isinstance(alias, str)
    assert isinstance(admission, bytes)
    assert isinstance(deadline, int)
    assert isinstance(commit, bytes)
    if version != VERSION:
        raise Mismatch("request header: version", expected=VERSION, actual=version)
    if not 1 <= deadline <= MAX_DEADLINE:
        raise Malformed(f"request header: deadline: expected 1 to {MAX_DEADLINE} ms, got {deadline}")
    _at_most("request header: alias", len(alias.encode()), MAX_ALIAS)
    _at_most("request header: admission label", len(admission), MAX_ADMISSION)
    _exactly("request header: commitment", commit, SECRET)
    return Header(_targets(targets), alias, admission, _padding(members["padding"]), Milliseconds(deadline), commit)


def header_digest(raw_header: bytes) -> Sha384:
    return labelled(labels.HEADER, raw_header)


def encode_opening(raw_header: bytes, slots: tuple[bytes, ...]) -> bytes:
    return encode({"header": raw_header, "slots": list(slots)})


def decode_opening(raw: bytes) -> Opening:
    """Raises Malformed (or one of its kinds)."""
    members = check_map(decode(raw, "opening", limit=MAX_OPENING), "opening", {"header": bytes, "slots": list})
    raw_header, slots = members["header"], members["slots"]
    assert isinstance(raw_header, bytes)
    assert isinstance(slots, list)
    header = decode_header(raw_header)
    if len(slots) != len(header.targets):
        raise Mismatch("opening: number of slots", expected=len(header.targets), actual=len(slots))
    return Opening(raw_header, header, tuple(_exactly("opening: slot", slot, SLOT_BYTES) for slot in slots))


def request_commitment(request_key: bytes) -> bytes:
    """`commit` of the header: AES-GCM is not key-committing, this is."""
    return hkdf_expand(request_key, info=labels.COMMIT_REQUEST, length=SECRET)


def response_commitment(response_secret: bytes) -> bytes:
    return hkdf_expand(response_secret, info=labels.COMMIT_RESPONSE, length=SECRET)


def request_record_key(request_key: bytes, digest: Sha384) -> bytes:
    return hkdf(request_key, salt=digest, info=labels.REQUEST_KEY, length=32)


def response_record_key(response_secret: bytes, nonce: bytes, request: Sha384, statement: StatementDigest) -> bytes:
    """Bound to the request as this enclave got it: another chosen enclave, which has K, cannot change it unseen."""
    info = length_prefixed(labels.RESPONSE_KEY, request, statement)
    return hkdf(response_secret, salt=nonce, info=info, length=32)


def seal_slot(secrets: bytes, public: bytes, *, statement: StatementDigest, header: Sha384, index: int) -> bytes:
    """`K || R_i` for the enclave at `index`. Raises Malformed for a channel key that is none."""
    return seal(secrets, public, info=_slot_info(statement, header, index))


def open_slot(
    slot: bytes, key: HybridPrivateKey, *, statement: StatementDigest, header: Sha384, index: int
) -> tuple[bytes, bytes]:
    """K and R_i. Raises SlotInvalid."""
    secrets = key.open(slot, info=_slot_info(statement, header, index))
    if len(secrets) != 2 * SECRET:
        raise SlotInvalid(f"slot: expected {2 * SECRET} bytes inside, got {len(secrets)}")
    return secrets[:SECRET], secrets[SECRET:]


def encapsulation(slot: bytes) -> bytes:
    """What replay memory remembers of a slot."""
    return slot[:ENCAPSULATION]


def slot_digest(slot: bytes) -> Sha384:
    return labelled(labels.SLOT_DIGEST, slot)


def check_commitment(what: str, *, expected: bytes, actual: bytes) -> None:
    """Raises Mismatch."""
    if not same(expected, actual):
        raise Mismatch(what, expected=expected, actual=actual, code="commitment")


def _slot_info(statement: StatementDigest, header: Sha384, index: int) -> bytes:
    return length_prefixed(labels.SLOT, SUITE.encode(), statement, header, bytes([index]))


def _targets(raw: list[Value]) -> tuple[KeyId, ...]:
    if not 1 <= len(raw) <= MAX_SLOTS:
        raise Malformed(f"request header: targets: expected 1 to {MAX_SLOTS}, got {len(raw)}")
    targets = tuple(KeyId(_exactly("request header: target", one, KEY_ID_BYTES)) for one in raw)
    if len(set(targets)) != len(targets):
        raise Malformed("request header: targets: expected each once")
    return targets


def _padding(raw: Value) -> Padding:
    try:
        return Padding(raw)
    except ValueError as error:
        raise Malformed(f"request header: padding: expected off, basic or strict, got {raw!r}") from error


def _exactly(what: str, raw: Value, size: int) -> bytes:
    if not isinstance(raw, bytes) or len(raw) != size:
        actual = f"{len(raw)} bytes" if isinstance(raw, bytes) else type(raw).__name__
        raise Malformed(f"{what}: expected {size} bytes, got {actual}")
    return raw


def _at_most(what: str, actual: int, limit: int) -> None:
    if actual > limit:
        raise TooLarge(what, limit=limit, actual=actual)
