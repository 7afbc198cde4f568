"""botocore's own shapes as a judge: an answer's JSON, as it came over the wire, against the model's output shape.

botocore's parser drops what it does not know and takes what it can; this walk does neither. A member that the model
does not have, a blob that is no base64, a time that is no number, a text out of its enum, length or pattern: each is a
`ShapeFault` that names the place.
"""

import base64
import binascii
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from botocore.model import ListShape, MapShape, OperationModel, Shape, StringShape, StructureShape

# What every AWS service may answer, whatever its model says (Common Error Types of the KMS API reference).
COMMON_ERRORS = frozenset(
    {
        "AccessDeniedException", "IncompleteSignatureException", "InvalidSignatureException",
        "MissingAuthenticationTokenException", "SerializationException", "ThrottlingException",
        "UnrecognizedClientException", "UnsupportedOperationException", "ValidationException",
    }
)  # fmt: skip

_ENDPOINT = "^https://[a-zA-Z0-9.-]+$"
_PORT = re.compile(r":[0-9]{1,5}$")


class ShapeFault(AssertionError):
    """An answer that is not in the model's shape."""


def check_answer(operation: OperationModel, status: int, body: bytes) -> None:
    """One answer in full. Raises ShapeFault."""
    if status == 200:
        _check_output(operation, body)
    else:
        _check_error(operation, body)


def check_value(shape: Shape, value: object, where: str) -> None:
    """One value of a JSON answer in `shape`. Raises ShapeFault."""
    check = _CHECKS.get(shape.type_name)
    if check is None:
        raise ShapeFault(f"{where}: shape {shape.type_name!r} is not known to this judge")
    check(shape, value, where)


def _check_output(operation: OperationModel, body: bytes) -> None:
    shape = operation.output_shape
    if shape is None or not shape.members:
        # AWS answers an operation without output by an empty body; an empty object would be read the same.
        if body not in (b"", b"{}"):
            raise ShapeFault(f"{operation.name}: expected no output, got {body[:80]!r}")
        return
    check_value(shape, json.loads(body), operation.name)


def _check_error(operation: OperationModel, body: bytes) -> None:
    fault = json.loads(body)
    names = {shape.error_code for shape in operation.error_shapes}
    if fault.get("__type") not in names | COMMON_ERRORS:
        raise ShapeFault(f"{operation.name}: {fault.get('__type')!r} is not an error of this operation")
    key = "Message" if fault["__type"] == "AccessDeniedException" else "message"
    if fault.keys() != {"__type", key} or not isinstance(fault[key], str):
        raise ShapeFault(f"{operation.name}: expected __type and {key}, got {sorted(fault)}")


def _structure(shape: StructureShape, value: object, where: str) -> None:
    if not isinstance(value, dict):
        raise ShapeFault(f"{where}: expected an object, got {value!r:.80}")
    if unknown := sorted(value.keys() - shape.members.keys()):
        raise ShapeFault(f"{where}: the model has no {unknown}")
    if missing := sorted(set(shape.required_members) - value.keys()):
        raise ShapeFault(f"{where}: required, and not there: {missing}")
    for name, member in value.items():
        check_value(shape.members[name], member, f"{where}.{name}")


def _list(shape: ListShape, value: object, where: str) -> None:
    if not isinstance(value, list):
        raise ShapeFault(f"{where}: expected a list, got {value!r:.80}")
    _size(shape, value, where)
    for index, member in enumerate(value):
        check_value(shape.member, member, f"{where}[{index}]")


def _map(shape: MapShape, value: object, where: str) -> None:
    if not isinstance(value, dict):
        raise ShapeFault(f"{where}: expected an object, got {value!r:.80}")
    _size(shape, value, where)
    for name, member in value.items():
        check_value(shape.key, name, f"{where} key")
        check_value(shape.value, member, f"{where}.{name}")


def _string(shape: StringShape, value: object, where: str) -> None:
    if not isinstance(value, str):
        raise ShapeFault(f"{where}: expected text, got {value!r:.80}")
    _size(shape, value, where)
    if shape.enum and value not in shape.enum:
        raise ShapeFault(f"{where}: expected one of {shape.enum}, got {value!r:.80}")
    pattern = shape.metadata.get("pattern")
    if pattern == _ENDPOINT:
        value = _PORT.sub("", value)  # a proxy under test has a port of its own; AWS's are at 443
    if pattern and not re.fullmatch(pattern, value):
        raise ShapeFault(f"{where}: expected {pattern}, got {value!r:.80}")


def _blob(shape: Shape, value: object, where: str) -> None:
    if not isinstance(value, str):
        raise ShapeFault(f"{where}: expected base64, got {value!r:.80}")
    try:
        raw = base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise ShapeFault(f"{where}: expected base64, got {value!r:.80}") from error
    _size(shape, raw, where)


def _integer(shape: Shape, value: object, where: str) -> None:
    if type(value) is not int:
        raise ShapeFault(f"{where}: expected a whole number, got {value!r:.80}")
    _range(shape, value, where)


def _timestamp(shape: Shape, value: object, where: str) -> None:
    # JSON 1.1: seconds since 1970, with or without a fraction.
    if type(value) not in (int, float) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ShapeFault(f"{where}: expected seconds, got {value!r:.80}")


def _boolean(shape: Shape, value: object, where: str) -> None:
    if not isinstance(value, bool):
        raise ShapeFault(f"{where}: expected true or false, got {value!r:.80}")


def _size(shape: Shape, value: Sequence[object] | Mapping[str, object], where: str) -> None:
    _range(shape, len(value), f"{where} length")


def _range(shape: Shape, number: int, where: str) -> None:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if (least is not None and number < least) or (most is not None and number > most):
        raise ShapeFault(f"{where}: expected {least} to {most}, got {number}")


_CHECKS: dict[str, Any] = {
    "structure": _structure, "list": _list, "map": _map, "string": _string, "blob": _blob, "integer": _integer,
    "long": _integer, "timestamp": _timestamp, "boolean": _boolean,
}  # fmt: skip


def judge(client: Any) -> Any:
    """The same boto3 client; from now on each of its answers is checked as it comes."""

    def received(response_dict: dict[str, Any], event_name: str, **_: object) -> None:
        operation = client.meta.service_model.operation_model(event_name.rsplit(".", 1)[1])
        check_answer(operation, response_dict["status_code"], response_dict["body"])

    client.meta.events.register("response-received.kms", received)
    return client
