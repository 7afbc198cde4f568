"""Challenges that need no memory until they are used: expiry, 10 random bytes and a MAC under this authority's key.

A flood of requests for challenges costs nothing to keep. The key is in the state, sealed: what one worker or host
issued, another recognises, before and after a restart.
"""

import secrets
from dataclasses import dataclass, field

from anchorhold.attestation import labels
from anchorhold.attestation.digest import hkdf_expand, length_prefixed, same
from anchorhold.attestation.types import Milliseconds

CHALLENGE_BYTES = 32
CHALLENGE_TTL_MS = 60_000  # DESIGN 12.5
_EXPIRY_BYTES = 6
_HEAD_BYTES = 16
KEY_BYTES = 48


class ChallengeRefused(Exception):
    """Not ours, or no longer valid."""


@dataclass(frozen=True, slots=True)
class Challenges:
    """Issues and recognises the challenges of one authority. Single use is the state's to keep."""

    key: bytes = field(repr=False)

    def issue(self, now: Milliseconds) -> tuple[bytes, Milliseconds]:
        """A challenge and when it expires."""
        expires = Milliseconds(now + CHALLENGE_TTL_MS)
        head = expires.to_bytes(_EXPIRY_BYTES, "big") + secrets.token_bytes(_HEAD_BYTES - _EXPIRY_BYTES)
        return head + self._mac(head), expires

    def check(self, challenge: bytes, now: Milliseconds) -> Milliseconds:
        """When it expires. Raises ChallengeRefused."""
        head, mac = challenge[:_HEAD_BYTES], challenge[_HEAD_BYTES:]
        if len(challenge) != CHALLENGE_BYTES or not same(mac, self._mac(head)):
            raise ChallengeRefused("a challenge that this authority did not issue")
        expires = int.from_bytes(head[:_EXPIRY_BYTES], "big")
        if now >= expires:
            raise ChallengeRefused(f"expired at {expires}, now {now}")
        return Milliseconds(expires)

    def _mac(self, head: bytes) -> bytes:
        # HKDF-Expand is HMAC over its info: the key is uniform and used for nothing else.
        info = length_prefixed(labels.CHALLENGE, head)
        return hkdf_expand(self.key, info=info, length=CHALLENGE_BYTES - _HEAD_BYTES)
