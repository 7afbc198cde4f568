"""Bodies: C2SP chunked encryption, Cobblestone-256, SHA-256 over the ciphertext (docs/adr/0001-body-format.md).

The opener decrypts into a buffer that its caller keeps to itself until `finish` has returned: plaintext comes out of
the library before the last tag and the hash are known. On any failure the buffer is zeroed here.
"""

import hashlib
from collections.abc import Callable

from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor
from cryptography.exceptions import InvalidTag

from anchorhold.attestation import labels
from anchorhold.attestation.digest import length_prefixed, same
from anchorhold.attestation.errors import EvidenceError, Mismatch
from anchorhold.attestation.types import ModelDigest

HEADER = 56  # C2SP chunked-encryption: salt 24, commitment 32
CHUNK = 16_384
TAG = 16


class BodyInvalid(EvidenceError):
    """A body that does not open: other key, other model, other file, or bytes that were changed."""

    code = "body"


def sealed_size(size: int) -> int:
    """The length of the body of a file of `size` bytes: the last chunk is shorter than the rest, so it may be empty."""
    return HEADER + size + TAG * (size // CHUNK + 1)


def body_context(model: ModelDigest, name: str) -> bytes:
    """What a body is bound to beside its key."""
    return length_prefixed(labels.FILE_CONTEXT, model, name.encode())


class BodySealer:
    """Encrypts one file under a key of its own and hashes what comes out."""

    def __init__(self, key: bytearray, model: ModelDigest, name: str) -> None:
        self._encryptor = Cobblestone256Encryptor(key, body_context(model, name))
        self._hasher = hashlib.sha256()
        self.size = 0

    def update(self, plain: bytes | memoryview) -> bytes:
        """The next ciphertext."""
        return self._out(self._encryptor.update(plain))

    def finish(self) -> bytes:
        """The last ciphertext; the digest is complete after it."""
        return self._out(self._encryptor.finalize())

    def digest(self) -> bytes:
        """SHA-256 of all ciphertext so far."""
        return self._hasher.digest()

    def _out(self, sealed: bytes) -> bytes:
        self._hasher.update(sealed)
        self.size += len(sealed)
        return sealed


class BodyOpener:
    """Decrypts one body into `buffer`, whose length is the file's. Nothing in it may be used before `finish` returns.

    `wipe` zeroes the buffer without a copy of its size; it is the caller's, who knows what the buffer is.
    """

    def __init__(
        self,
        key: bytearray,
        model: ModelDigest,
        name: str,
        *,
        buffer: memoryview,
        digest: bytes,
        wipe: Callable[[memoryview], None],
    ) -> None:
        self._decryptor = Cobblestone256Decryptor(key, body_context(model, name))
        self._hasher = hashlib.sha256()
        self._name = name
        self._buffer = buffer
        self._digest = digest
        self._wipe = wipe
        self._expected = sealed_size(len(buffer))
        self._read = 0
        self._written = 0

    def update(self, sealed: bytes | memoryview) -> None:
        """Take the next ciphertext. Raises BodyInvalid or Mismatch; the buffer is zero then."""
        self._read += len(sealed)
        if self._read > self._expected:
            self._fail_size()
        self._hasher.update(sealed)
        try:
            self._written += self._decryptor.update_into(sealed, self._buffer[self._written :])
        except InvalidTag as error:
            self._wipe(self._buffer)
            raise BodyInvalid(f"the body of {self._name!r} does not open under this key for this model") from error

    def finish(self) -> None:
        """1. All bytes came. 2. The last tag holds. 3. The hash is the manifest's. Raises BodyInvalid or Mismatch."""
        # 1. Length (sealed-model.md 5).
        if self._read != self._expected:
            self._fail_size()
        # 2. The end of the stream is authentic.
        try:
            tail = self._decryptor.finalize()
        except InvalidTag as error:
            self._wipe(self._buffer)
            raise BodyInvalid(f"the body of {self._name!r} does not end where its last chunk does") from error
        self._buffer[self._written : self._written + len(tail)] = tail
        # 3. The publisher's signature covers this hash; a tag binds nobody who knows the key.
        actual = self._hasher.digest()
        if not same(actual, self._digest):
            self._wipe(self._buffer)
            raise Mismatch(
                f"hash of the body of {self._name!r}", expected=self._digest, actual=actual, code="body-hash"
            )

    def _fail_size(self) -> None:
        self._wipe(self._buffer)
        what = f"size of the body of {self._name!r}"
        raise Mismatch(what, expected=self._expected, actual=self._read, code="body-size")
