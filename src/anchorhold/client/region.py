"""Where an enclave runs: the region that the platform's own certificates name.

The root signs a regional certificate `<hex>.<region>.aws.nitro-enclaves`; the leaf is `<module id>.<region>.aws`. Both
are read from a document that has been verified, and count only where they name the same region.
"""

import re

from cryptography import x509
from cryptography.x509.oid import NameOID

from anchorhold.attestation.document import parse_document

_REGIONAL = re.compile(r"[0-9a-f]{1,64}\.([a-z0-9-]{1,32})\.aws\.nitro-enclaves", re.ASCII)
_LEAF = re.compile(r"\.([a-z0-9-]{1,32})\.aws", re.ASCII)


def region_of(verified: bytes) -> str | None:
    """The region in the certificates of a document that has been verified; None where they do not agree on one."""
    document = parse_document(verified)
    if len(document.cabundle) < 2:
        return None
    # The first is the anchor; the second is what the anchor signed.
    regional = _REGIONAL.fullmatch(_common_name(document.cabundle[1]))
    name = _common_name(document.certificate)
    leaf = _LEAF.fullmatch(name.removeprefix(document.module_id)) if name.startswith(document.module_id) else None
    if regional is None or leaf is None or regional[1] != leaf[1]:
        return None
    return regional[1]


def _common_name(certificate: bytes) -> str:
    names = x509.load_der_x509_certificate(certificate).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if len(names) == 1 else ""
