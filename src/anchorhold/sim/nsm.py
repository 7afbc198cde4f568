"""A toy NSM: real register state, real signed documents, the real wire; only the root is a toy. The device, not the
verifier.

Registers 0..15 are locked from boot, 16..31 start at zero, extend is SHA384(old || data), a lock lasts until the
enclave ends. Documents have the form of 2025 and later: outer map indefinite, null for what is absent.
"""

import hashlib
import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from anchorhold.sim.pki import REISSUE_BEFORE, Leaf, SimulatedPki

MAX_REQUEST = 0x1000  # bytes; over it the driver says EMSGSIZE and AWS's library InputTooLarge
MAX_FIELD = 1024  # bytes
PCRS = 32
BOOT_LOCKED = 16
RANDOM_BYTES = 256
_SIZE = 48
_PROTECTED = cbor2.dumps({1: -35})
_U16 = 0xFFFF


class _Refused(Exception):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class ToyNsm:
    """The module of one enclave. `transact` takes one request and returns one answer, always."""

    def __init__(
        self, pki: SimulatedPki, measurements: Mapping[int, bytes], module_id: str, clock_ms: Callable[[], int]
    ) -> None:
        self._pki = pki
        self._module_id = module_id
        self._clock_ms = clock_ms
        self._registers = [measurements.get(index, bytes(_SIZE)) for index in range(PCRS)]
        self._locked = set(range(BOOT_LOCKED))
        self._leaf: Leaf | None = None

    def transact(self, request: bytes) -> bytes:
        """One request, one answer; a bad request gets `{"Error": name}`."""
        try:
            return cbor2.dumps(self._answer(request))
        except _Refused as error:
            return cbor2.dumps({"Error": error.name})

    def _answer(self, request: bytes) -> object:
        if len(request) > MAX_REQUEST:
            raise _Refused("InputTooLarge")
        try:
            asked = cbor2.loads(request)
        except (cbor2.CBORDecodeError, RecursionError, ValueError) as error:
            raise _Refused("InvalidOperation") from error
        if asked == "DescribeNSM":
            return {"DescribeNSM": self._describe()}
        if asked == "GetRandom":
            return {"GetRandom": {"random": secrets.token_bytes(RANDOM_BYTES)}}
        if not isinstance(asked, dict) or len(asked) != 1:
            raise _Refused("InvalidOperation")
        ((name, fields),) = asked.items()
        if name not in _FIELDS or not isinstance(fields, dict) or fields.keys() != _FIELDS[name]:
            raise _Refused("InvalidOperation")
        if name == "Attestation":
            return {"Attestation": {"document": self._attest(fields)}}
        if name == "LockPCRs":
            return self._lock_range(_number(fields["range"]))
        index = _number(fields["index"])
        if index >= PCRS:
            raise _Refused("InvalidIndex")
        return self._register(name, index, fields)

    def _register(self, name: str, index: int, fields: Mapping[str, object]) -> object:
        if name == "DescribePCR":
            return {"DescribePCR": {"lock": index in self._locked, "data": self._registers[index]}}
        if index in self._locked:
            raise _Refused("ReadOnlyIndex")
        if name == "LockPCR":
            self._locked.add(index)
            return "LockPCR"
        data = fields["data"]
        if not isinstance(data, bytes):
            raise _Refused("InvalidOperation")
        # The raw data, whatever its length, not its hash (qemu virtio-nsm.c).
        self._registers[index] = hashlib.sha384(self._registers[index] + data).digest()
        return {"ExtendPCR": {"data": self._registers[index]}}

    def _lock_range(self, count: int) -> str:
        if count > PCRS:
            raise _Refused("InvalidIndex")
        self._locked.update(range(count))
        return "LockPCRs"

    def _describe(self) -> dict[str, object]:
        return {
            "version_major": 1,
            "version_minor": 0,
            "version_patch": 0,
            "module_id": self._module_id,
            "max_pcrs": PCRS,
            "locked_pcrs": sorted(self._locked),
            "digest": "SHA384",
        }

    def _attest(self, fields: Mapping[str, object]) -> bytes:
        for value in fields.values():
            if value is not None and not isinstance(value, bytes):
                raise _Refused("InvalidOperation")
            if value is not None and len(value) > MAX_FIELD:
                raise _Refused("InputTooLarge")
        now_ms = self._clock_ms()
        leaf = self._current_leaf(datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=now_ms))
        return sign_document(
            {
                "module_id": self._module_id,
                "digest": "SHA384",
                "timestamp": now_ms,
                "pcrs": {index: self._registers[index] for index in sorted(self._locked)},
                "certificate": leaf.issued.der,
                "cabundle": list(leaf.cabundle),
                "public_key": fields["public_key"],
                "user_data": fields["user_data"],
                "nonce": fields["nonce"],
            },
            leaf.issued.key,
        )

    def _current_leaf(self, now: datetime) -> Leaf:
        leaf = self._leaf
        if leaf is None or now > leaf.issued.certificate.not_valid_after_utc - REISSUE_BEFORE:
            leaf = self._pki.leaf(self._module_id, now)
            self._leaf = leaf
        return leaf


def sign_document(fields: Mapping[str, object], key: ec.EllipticCurvePrivateKey) -> bytes:
    """An untagged COSE_Sign1 over `fields` in their order, in the indefinite form."""
    members = b"".join(cbor2.dumps(name) + cbor2.dumps(value) for name, value in fields.items())
    return sign_payload(b"\xbf" + members + b"\xff", key)


def sign_payload(payload: bytes, key: ec.EllipticCurvePrivateKey, protected: bytes = _PROTECTED) -> bytes:
    """An untagged COSE_Sign1 over any bytes: tests sign bad ones, so that only the one fault is wrong."""
    signed = cbor2.dumps(["Signature1", protected, b"", payload])
    r, s = decode_dss_signature(key.sign(signed, ec.ECDSA(hashes.SHA384())))
    return cbor2.dumps([protected, {}, payload, r.to_bytes(_SIZE, "big") + s.to_bytes(_SIZE, "big")])


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value <= _U16:
        raise _Refused("InvalidOperation")
    return value


_FIELDS: Mapping[str, set[str]] = {
    "DescribePCR": {"index"},
    "ExtendPCR": {"index", "data"},
    "LockPCR": {"index"},
    "LockPCRs": {"range"},
    "Attestation": {"user_data", "nonce", "public_key"},
}
