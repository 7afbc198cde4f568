"""Whose releases a relying party accepts, as it stands in a trust file: product, quorum, and how old a list may be.

Pinned out of band with the rest of the trust file (docs/spec/channel.md 9). Where the list lies is an address and is
trusted for nothing: the quorum's signatures are what counts.
"""

from dataclasses import dataclass

from anchorhold.attestation import labels
from anchorhold.attestation.canonical import encode
from anchorhold.attestation.digest import labelled
from anchorhold.attestation.errors import Malformed
from anchorhold.attestation.release.quorum import Quorum, quorum_from_json
from anchorhold.attestation.release.statement import check_name
from anchorhold.attestation.release.verify import DEFAULT_MAX_LIST_AGE_MS
from anchorhold.attestation.types import Milliseconds, Sha384

DEFAULT_MAX_LIST_AGE_S = DEFAULT_MAX_LIST_AGE_MS // 1_000
MAX_MAX_LIST_AGE_S = 90 * 86_400  # who withholds a list hides a revocation for this long: a quarter is past any excuse
MAX_SOURCE = 4_096  # characters; Linux's PATH_MAX
_NEEDED = {"product", "threshold", "revocation_threshold", "signers", "source"}
_FIELDS = _NEEDED | {"max_list_age_s"}


@dataclass(frozen=True, slots=True)
class ReleasePin:
    """The block `releases` of a trust file."""

    product: str
    quorum: Quorum
    source: str | None = None
    max_list_age_s: int = DEFAULT_MAX_LIST_AGE_S

    def __post_init__(self) -> None:
        check_name("releases: product", self.product)
        if not 1 <= self.max_list_age_s <= MAX_MAX_LIST_AGE_S:
            raise Malformed(f"releases: max_list_age_s: expected 1 to {MAX_MAX_LIST_AGE_S}, got {self.max_list_age_s}")
        if self.source is not None and not (self.source.isprintable() and 1 <= len(self.source) <= MAX_SOURCE):
            raise Malformed(f"releases: source: expected 1 to {MAX_SOURCE} printable characters")

    @property
    def max_list_age(self) -> Milliseconds:
        """Of the list, when a client judges it."""
        return Milliseconds(self.max_list_age_s * 1_000)

    @property
    def digest(self) -> Sha384:
        """Of product and quorum: lists of another quorum have version numbers of their own."""
        signers = sorted(signer.identity for signer in self.quorum.signers)
        return labelled(
            labels.RELEASES_QUORUM,
            encode([self.product, self.quorum.threshold, self.quorum.revocation_threshold, signers]),
        )

    def as_json(self) -> dict[str, object]:
        """As in a trust file, in the order a person reads it."""
        return {
            "product": self.product,
            **self.quorum.as_json(),
            "source": self.source,
            "max_list_age_s": self.max_list_age_s,
        }


def pin_from_json(value: object) -> ReleasePin:
    """The block `releases`, strictly; `max_list_age_s` may be left out. Raises EvidenceError."""
    if not isinstance(value, dict) or not _NEEDED <= value.keys() <= _FIELDS:
        got = sorted(map(str, value)) if isinstance(value, dict) else type(value).__name__
        raise Malformed(f"releases: expected the fields {sorted(_FIELDS)}, got {got}")
    product, source = value["product"], value["source"]
    age = value.get("max_list_age_s", DEFAULT_MAX_LIST_AGE_S)
    if not isinstance(product, str) or not isinstance(source, str | None) or type(age) is not int:
        raise Malformed("releases: expected text in product, text or null in source, a whole number in max_list_age_s")
    return ReleasePin(product, quorum_from_json(value), source, age)
