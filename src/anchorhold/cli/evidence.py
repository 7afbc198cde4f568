"""`anchorhold evidence verify|show`: attestation documents, judged at a named time or merely read."""

import argparse
import hashlib
import json
import time
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from anchorhold.attestation.anchors import AWS_NITRO_G1, Anchor, anchor_from_pem
from anchorhold.attestation.appraise import appraise
from anchorhold.attestation.certificates import ChainCache
from anchorhold.attestation.channel.nonces import bound_nonce
from anchorhold.attestation.document import MAX_DOCUMENT, MAX_FIELD, UnverifiedDocument, parse_document
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.policy import MAX_POLICY_JSON, Policy, pcr_name, policy_from_json
from anchorhold.attestation.timing import OWN_WORD, TimeEvidence, TimeSource, moment
from anchorhold.attestation.verdict import Verdict, worst
from anchorhold.cli.main import CANNOT_RUN, REFUSED, CommandError
from anchorhold.cli.page import page
from anchorhold.cli.printable import printable
from anchorhold.cli.subparsers import Subparsers

_SHOWN_BYTES = 32
_CODES = """0 verified, 1 contradicted or refused, 2 unreadable, 3 limits (a time on the document's own word, or
something not checked), 4 simulation only"""


def add_parser(subparsers: Subparsers) -> None:
    """Add `evidence` with its two commands."""
    example = (
        "anchorhold evidence verify document.cbor --at now --policy policy.json\nanchorhold evidence show document.cbor"
    )
    what = "Attestation documents of AWS Nitro Enclaves and NitroTPM, and of the simulated platform. No network."
    group = subparsers.add_parser(
        "evidence", help="verify or show an attestation document", **page(what, example=example, codes=_CODES)
    )
    commands = group.add_subparsers(dest="evidence_command", metavar="COMMAND", required=True)
    _add_verify(commands)
    _add_show(commands)


def _add_verify(commands: Subparsers) -> None:
    verify = commands.add_parser(
        "verify",
        help="judge a document, claim by claim",
        **page(
            """Judge an attestation document, claim by claim: signature, certificate chain, platform, measurements,
            freshness; each with what it rests on and a stable code (`anchorhold explain CODE`). Without a policy the
            measurements are not judged; a claim that was not checked says so.

            Of several documents one line each is printed, and the worst exit code is returned: 1, then 2, 3, 4, 0.""",
            example="anchorhold evidence verify document.cbor --at 2026-01-31T12:00:00Z --json",
            codes=_CODES,
        ),
    )
    verify.add_argument("file", type=Path, nargs="+", metavar="FILE", help="the document, as the NSM gave it")
    verify.add_argument(
        "--at",
        type=_time,
        default="now",
        metavar="doc|now|RFC3339",
        help="when its certificates must be valid: the document's own time, now (the default), or a time you name",
    )
    verify.add_argument(
        "--policy",
        type=Path,
        metavar="FILE",
        help="accepted platforms and releases, JSON (docs/schema/policy.schema.json)",
    )
    _add_nonces(verify)
    _add_dangers(verify)
    verify.add_argument("--json", action="store_true", help="print JSON, of several documents a list")
    verify.set_defaults(run=_verify)


def _add_nonces(verify: argparse.ArgumentParser) -> None:
    verify.add_argument("--nonce", type=_nonce, metavar="HEX", help="the nonce the document must carry")
    verify.add_argument(
        "--caller-nonce",
        type=_nonce,
        metavar="HEX",
        help="the nonce that a client sent to `Attest`, in the place of --nonce (docs/spec/channel.md 11)",
    )
    verify.add_argument(
        "--nonce-proof",
        type=_nonce,
        default=b"",
        metavar="HEX",
        help="the path that came with the document where several callers shared it; with --caller-nonce",
    )


def _add_dangers(verify: argparse.ArgumentParser) -> None:
    verify.add_argument(
        "--dangerous-simulated-root",
        type=Path,
        metavar="PEM",
        help="also accept this root; everything under it is simulated, and says so",
    )
    verify.add_argument(
        "--dangerous-allow-debug",
        action="store_true",
        help="accept an enclave in debug mode, whose memory its parent can read: the claim stays failed, accepted by "
        "flag, and the exit code is 3 at best",
    )


def _add_show(commands: Subparsers) -> None:
    show = commands.add_parser(
        "show",
        help="print what a document says; nothing is verified",
        **page(
            "Print what an attestation document says. Nothing is verified: that is `evidence verify`.",
            example="anchorhold evidence show document.cbor --json",
            codes="0 printed, 1 not a document in the form, 2 unreadable",
        ),
    )
    show.add_argument("file", type=Path, metavar="FILE", help="the document, as the NSM gave it")
    show.add_argument("--json", action="store_true", help="print JSON")
    show.set_defaults(run=_show)


def _verify(options: argparse.Namespace) -> int:
    policy, anchors, cache = _policy(options.policy), _anchors(options), ChainCache()
    nonce = _wanted_nonce(options)
    judged: list[tuple[Path, bytes, Verdict]] = []
    for file in options.file:
        raw = _read(file, MAX_DOCUMENT)
        verdict = appraise(
            raw,
            policy,
            anchors,
            options.at,
            nonce,
            dangerous_allow_debug=options.dangerous_allow_debug,
            cache=cache,
        )
        judged.append((file, raw, verdict))
    if options.json:
        shown = [_as_json(*one) for one in judged]
        print(json.dumps(shown if len(shown) > 1 else shown[0], indent=2))
    elif len(judged) == 1:
        print(judged[0][2].text())
    else:
        for file, _, verdict in judged:
            print(f"{int(verdict.exit_code)}  {printable(str(file))}  {verdict.line()}")
    return int(worst([verdict.exit_code for _, _, verdict in judged]))


def _wanted_nonce(options: argparse.Namespace) -> bytes | None:
    """What the document must carry, as given or as the client's nonce and path lead to it."""
    given, caller, proof = options.nonce, options.caller_nonce, options.nonce_proof
    if (given is not None and caller is not None) or (proof and caller is None):
        raise CommandError("the nonce is given once: --nonce, or --caller-nonce with its --nonce-proof")
    try:
        return given if caller is None else bound_nonce(caller, proof)
    except EvidenceError as error:
        raise CommandError(str(error), code=REFUSED) from error


def _as_json(file: Path, raw: bytes, verdict: Verdict) -> dict[str, object]:
    return {"file": str(file), "sha256": hashlib.sha256(raw).hexdigest(), **verdict.as_json()}


def _show(options: argparse.Namespace) -> int:
    try:
        document = parse_document(_read(options.file, MAX_DOCUMENT))
    except EvidenceError as error:
        code = CANNOT_RUN if error.code == "unreadable" else REFUSED
        raise CommandError(str(error), code=code) from error
    said = _said(document)
    print(json.dumps(said, indent=2) if options.json else _as_text(document, said))
    return 0


def _said(document: UnverifiedDocument) -> dict[str, object]:
    return {
        "verified": False,
        "module_id": document.module_id,
        "time": moment(document.timestamp_ms).isoformat(timespec="milliseconds"),
        "timestamp_ms": document.timestamp_ms,
        "registers": document.bank.value,
        "pcrs": {str(index): value.hex() for index, value in sorted(document.pcrs.items())},
        "certificates": [_certificate(der) for der in (*document.cabundle, document.certificate)],
        "public_key": _hex(document.public_key),
        "user_data": _hex(document.user_data),
        "nonce": _hex(document.nonce),
    }


def _as_text(document: UnverifiedDocument, said: dict[str, object]) -> str:
    lines = [
        "NOTHING HERE IS VERIFIED: this is what the document says (anchorhold evidence verify judges it)",
        f"  module      {document.module_id}",
        f"  time        {said['time']}",
    ]
    lines += [
        f"  pcr {pcr_name(index):<18}{'zero' if not any(value) else value.hex()}"
        for index, value in sorted(document.pcrs.items())
    ]
    for name in ("public_key", "user_data", "nonce"):
        value: bytes | None = getattr(document, name)
        shown = "null" if value is None else f"{len(value)} bytes {value[:_SHOWN_BYTES].hex()}"
        lines.append(f"  {name:<12}{shown}{'...' if value is not None and len(value) > _SHOWN_BYTES else ''}")
    for der in (*document.cabundle, document.certificate):
        lines.append(f"  certificate {_certificate(der)}")
    return "\n".join(lines)


def _certificate(der: bytes) -> str:
    try:
        certificate = x509.load_der_x509_certificate(der)
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        return f"{certificate.subject.rfc4514_string()!r}, valid {begin.isoformat()} to {end.isoformat()}"
    except ValueError:
        return f"not a readable certificate, {len(der)} bytes"


def _hex(value: bytes | None) -> str | None:
    return None if value is None else value.hex()


def _policy(path: Path | None) -> Policy | None:
    if path is None:
        return None
    try:
        return policy_from_json(_read(path, MAX_POLICY_JSON))
    except EvidenceError as error:
        example = (
            '{"version": 1, "platforms": ["nitro-enclave"], "releases": {"NAME": [{"0": "...", "1": "...", ...}]}}'
        )
        raise CommandError(str(error), hint=f"a policy reads {example}; docs/schema/policy.schema.json") from error


def _anchors(options: argparse.Namespace) -> tuple[Anchor, ...]:
    if options.dangerous_simulated_root is None:
        return (AWS_NITRO_G1,)
    try:
        return (AWS_NITRO_G1, anchor_from_pem("simulated", _read(options.dangerous_simulated_root, MAX_DOCUMENT)))
    except EvidenceError as error:
        raise CommandError(str(error)) from error


def _read(path: Path, limit: int) -> bytes:
    """At most one byte more than `limit`: whoever parses it says that it is too large."""
    try:
        with path.open("rb") as file:
            return file.read(limit + 1)
    except OSError as error:
        raise CommandError(f"cannot read {str(path)!r}: {error.strerror}") from error


def _time(text: str) -> TimeEvidence:
    if text == "doc":
        return OWN_WORD
    if text == "now":
        now = datetime.fromtimestamp(time.time(), UTC)  # noqa: TID251 - the process's one clock
        return TimeEvidence(TimeSource.CLOCK, now)
    try:
        named = datetime.fromisoformat(text)
    except ValueError as error:
        wanted = "doc, now or a time like 2026-01-31T12:00:00Z"
        raise argparse.ArgumentTypeError(f"expected {wanted}, got {text!r}") from error
    if named.tzinfo is None:
        raise argparse.ArgumentTypeError(f"expected a time with its zone (a Z at the end is UTC), got {text!r}")
    return TimeEvidence(TimeSource.CALLER, named.astimezone(UTC))


def _nonce(text: str) -> bytes:
    try:
        nonce = bytes.fromhex(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected hex digits, got {text!r}") from error
    if not 1 <= len(nonce) <= MAX_FIELD:
        raise argparse.ArgumentTypeError(f"expected 1..{MAX_FIELD} bytes, got {len(nonce)}")
    return nonce
