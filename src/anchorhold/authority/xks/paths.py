"""Which path a request names: `/<prefix>/kms/xks/v1/keys/<id>/<operation>` or `/<prefix>/kms/xks/v1/health`."""

import re
from dataclasses import dataclass
from enum import Enum

from anchorhold.authority.xks.faults import Error, XksFault

MAX_PREFIX = 128  # characters, the specification's limit on the path before /kms/xks/v1
MAX_KEY_ID = 128
MAX_URI = (
    384  # characters: prefix, the fixed parts, an id and an operation; the specification's own is 256 for the store
)
VERSION = "/kms/xks/v1"
KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_PREFIX = re.compile(r"(/[A-Za-z0-9._-]+){0,16}")
_KEY_PATH = re.compile(r"/keys/(?P<key>[A-Za-z0-9._-]{1,128})/(?P<operation>metadata|encrypt|decrypt)")


class Operation(Enum):
    """What the API can do; the value is its name in the specification, and the guard's word for it after `xks:`."""

    METADATA = "GetKeyMetadata"
    ENCRYPT = "Encrypt"
    DECRYPT = "Decrypt"
    HEALTH = "GetHealthStatus"


_OPERATIONS = {"metadata": Operation.METADATA, "encrypt": Operation.ENCRYPT, "decrypt": Operation.DECRYPT}


@dataclass(frozen=True, slots=True)
class Target:
    """What a path names. `key` is empty for health alone."""

    operation: Operation
    key: str


def checked_prefix(text: str) -> str:
    """A path prefix, empty or beginning with a slash. Raises ValueError."""
    if len(text) > MAX_PREFIX or _PREFIX.fullmatch(text) is None:
        raise ValueError(f"path prefix: expected /name, at most {MAX_PREFIX} characters, got {text!r:.160}")
    return text


def checked_key_id(text: str) -> str:
    """An external key id. Raises ValueError."""
    if KEY_ID.fullmatch(text) is None:
        raise ValueError(f"external key id: expected 1 to {MAX_KEY_ID} of A-Z a-z 0-9 . _ -, got {text!r:.160}")
    return text


def parse_path(path: str, query: str, prefix: str) -> Target:
    """The target. Raises InvalidUriPathException, also for a query: the API has none."""
    head = prefix + VERSION
    if len(path) > MAX_URI or query or not path.startswith(head + "/"):
        raise XksFault(Error.INVALID_URI_PATH, "not a path of this proxy")
    rest = path.removeprefix(head)
    if rest == "/health":
        return Target(Operation.HEALTH, "")
    match = _KEY_PATH.fullmatch(rest)
    if match is None:
        raise XksFault(Error.INVALID_URI_PATH, "not a path of this proxy")
    return Target(_OPERATIONS[match["operation"]], match["key"])
