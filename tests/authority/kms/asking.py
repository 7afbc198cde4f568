"""Small words of tests that ask a KMS face: blobs in and out of its JSON, and a call that is refused."""

import base64
from typing import Any

from .conftest import Kms, KmsError, refused


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def raw(answer: dict[str, Any], member: str) -> bytes:
    return base64.b64decode(answer[member])


def refuses(kms: Kms, fault: str, name: str, operation: str, **asked: object) -> KmsError:
    """The fault that `name`'s call is refused with, which has this name."""
    return refused(fault, lambda: kms.call(name, operation, **asked))
