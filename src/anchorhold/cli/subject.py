"""What `authority revoke` and `reinstate` are about beside a model: an image, a boot, a tenant or a purpose.

These are the owner face's alone: a KMS knows no boots, and its policy is where an image is refused there.
"""

import argparse
import json

from anchorhold.attestation.canonical import Value
from anchorhold.attestation.types import Milliseconds
from anchorhold.authority.owner.client import AdminFailed
from anchorhold.cli.main import CommandError
from anchorhold.cli.target import Target, failed
from anchorhold.cli.times import moment_text

_HEX = ("image", "boot")
_NAMES = ("tenant", "purpose")


def add_subjects(group: "argparse._MutuallyExclusiveGroup") -> None:
    """The options, each excluding the others and --model."""
    group.add_argument("--image", metavar="PCR0", help="an image, by measurement 0 in hex (owner face)")
    group.add_argument("--boot", metavar="ID", help="one enclave, by its boot id in hex (owner face)")
    group.add_argument("--tenant", metavar="NAME", help="a tenant, for every model (owner face)")
    group.add_argument("--purpose", metavar="CODE", help="a reason code, for every model (owner face)")


def named(options: argparse.Namespace) -> tuple[str, Value] | None:
    """What was named beside a model, as the authority's body has it. Raises CommandError."""
    for name in (*_HEX, *_NAMES):
        text = getattr(options, name)
        if text is not None:
            return name, _bytes(name, text) if name in _HEX else text
    return None


def run(options: argparse.Namespace, order: str, subject: tuple[str, Value]) -> int:
    """`revoke` or `reinstate` at the owner face. Raises CommandError."""
    name, value = subject
    try:
        answer = Target.of(options, model=False).owner().call(order, {name: value, "reason": options.reason})
    except AdminFailed as error:
        raise failed(f"{order}: {error}", error.code) from error
    shown = getattr(options, name)
    if options.json:
        print(json.dumps({name: shown, **{key: item for key, item in answer.items() if isinstance(item, int)}}))
    elif order == "reinstate":
        print(f"reinstated   {name} {shown} at owner")
    else:
        at, last = answer["at"], answer["last_not_after"]
        assert isinstance(at, int)
        assert isinstance(last, int)
        print(f"revoked        {name} {shown} at owner, {moment_text(Milliseconds(at))}")
        over = (
            "no lease is out" if last <= at else f"the last lease given before ends {moment_text(Milliseconds(last))}"
        )
        print(f"leases         {over}")
    return 0


def _bytes(name: str, text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise CommandError(f"--{name}: expected hex, got {text!r:.80}") from error
