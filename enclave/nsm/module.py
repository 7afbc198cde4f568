"""What the enclave asks of its security module, and one client that speaks the NSM's own messages (nsm-api).

serde's externally tagged enums in CBOR: a request without fields is a bare text, an answer is `{name: fields}` or the
bare name, a refusal is `{"Error": name}`. How the bytes travel is the caller's: `/dev/nsm` on Nitro, an inherited
socket in simulation. The NSM answers one request at a time; so does this client.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from anchorhold.attestation.canonical import Value, encode
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.nsm_cbor import NsmValue, read
from anchorhold.attestation.types import SHA384_BYTES

MAX_REQUEST = 0x1000  # bytes; the driver answers EMSGSIZE above
MAX_RESPONSE = 0x3000  # bytes; the driver's answer buffer
Transact: TypeAlias = Callable[[bytes], bytes]


class NsmError(Exception):
    """The security module did not do what was asked. `name` is the NSM's own word, or ours for an answer out of
    form.
    """

    def __init__(self, request: str, name: str) -> None:
        super().__init__(f"security module: {request}: {name}")
        self.request = request
        self.name = name


@dataclass(frozen=True, slots=True)
class Description:
    """The module's own description."""

    version: tuple[int, int, int]
    module_id: str
    max_pcrs: int
    locked_pcrs: tuple[int, ...]
    digest: str


@dataclass(frozen=True, slots=True)
class Register:
    """One register as it stands."""

    locked: bool
    value: bytes


class SecurityModule(Protocol):
    """The root of what this enclave can prove. Every method raises NsmError."""

    def describe(self) -> Description:
        """The module's identity and which registers are locked."""
        ...

    def attest(
        self, *, user_data: bytes | None = None, nonce: bytes | None = None, public_key: bytes | None = None
    ) -> bytes:
        """A signed document over these fields and the locked registers."""
        ...

    def extend_pcr(self, index: int, data: bytes) -> bytes:
        """Register := SHA384(register || data); the new value."""
        ...

    def describe_pcr(self, index: int) -> Register:
        """One register."""
        ...

    def lock_pcrs(self, count: int) -> None:
        """Lock registers 0..count-1 until the enclave ends."""
        ...

    def random(self) -> bytes:
        """Up to 256 bytes of the module's entropy."""
        ...


class NsmClient:
    """A SecurityModule behind `transact`, which takes one CBOR request and returns one CBOR answer."""

    def __init__(self, transact: Transact) -> None:
        self._transact = transact
        self._one_at_a_time = threading.Lock()

    def describe(self) -> Description:
        """See SecurityModule."""
        fields = self._fields("DescribeNSM", None)
        locked = fields.get("locked_pcrs")
        if not isinstance(locked, list):
            raise NsmError("DescribeNSM", "InvalidResponse")
        return Description(
            version=(
                _uint("DescribeNSM", fields.get("version_major")),
                _uint("DescribeNSM", fields.get("version_minor")),
                _uint("DescribeNSM", fields.get("version_patch")),
            ),
            module_id=_text("DescribeNSM", fields.get("module_id")),
            max_pcrs=_uint("DescribeNSM", fields.get("max_pcrs")),
            locked_pcrs=tuple(_uint("DescribeNSM", one) for one in locked),
            digest=_text("DescribeNSM", fields.get("digest")),
        )

    def attest(
        self, *, user_data: bytes | None = None, nonce: bytes | None = None, public_key: bytes | None = None
    ) -> bytes:
        """See SecurityModule."""
        asked: dict[str, Value] = {"user_data": user_data, "nonce": nonce, "public_key": public_key}
        return _bytes("Attestation", self._fields("Attestation", asked).get("document"))

    def extend_pcr(self, index: int, data: bytes) -> bytes:
        """See SecurityModule."""
        fields = self._fields("ExtendPCR", {"index": index, "data": data})
        return _bytes("ExtendPCR", fields.get("data"), SHA384_BYTES)

    def describe_pcr(self, index: int) -> Register:
        """See SecurityModule."""
        fields = self._fields("DescribePCR", {"index": index})
        locked = fields.get("lock")
        if not isinstance(locked, bool):
            raise NsmError("DescribePCR", "InvalidResponse")
        return Register(locked, _bytes("DescribePCR", fields.get("data"), SHA384_BYTES))

    def lock_pcrs(self, count: int) -> None:
        """See SecurityModule."""
        if self._ask("LockPCRs", {"range": count}) != "LockPCRs":
            raise NsmError("LockPCRs", "InvalidResponse")

    def random(self) -> bytes:
        """See SecurityModule."""
        return _bytes("GetRandom", self._fields("GetRandom", None).get("random"))

    def _fields(self, name: str, fields: Mapping[str, Value] | None) -> dict[str | int, NsmValue]:
        answer = self._ask(name, fields)
        if not isinstance(answer, dict) or answer.keys() != {name}:
            raise NsmError(name, "InvalidResponse")
        members = answer[name]
        if not isinstance(members, dict):
            raise NsmError(name, "InvalidResponse")
        return members

    def _ask(self, name: str, fields: Mapping[str, Value] | None) -> NsmValue:
        request = encode(name if fields is None else {name: fields})
        if len(request) > MAX_REQUEST:
            raise NsmError(name, "InputTooLarge")
        try:
            with self._one_at_a_time:
                raw = self._transact(request)
        except OSError as error:
            raise NsmError(name, "Unreachable") from error
        if len(raw) > MAX_RESPONSE:
            raise NsmError(name, "InvalidResponse")
        try:
            answer = read(raw, "NSM answer")
        except EvidenceError as error:
            raise NsmError(name, "InvalidResponse") from error
        if isinstance(answer, dict) and answer.keys() == {"Error"}:
            raise NsmError(name, _text(name, answer["Error"]))
        return answer


def _uint(request: str, value: object) -> int:
    if type(value) is not int:
        raise NsmError(request, "InvalidResponse")
    return value


def _text(request: str, value: object) -> str:
    if not isinstance(value, str):
        raise NsmError(request, "InvalidResponse")
    return value


def _bytes(request: str, value: object, size: int | None = None) -> bytes:
    if not isinstance(value, bytes) or not value or (size is not None and len(value) != size):
        raise NsmError(request, "InvalidResponse")
    return value
