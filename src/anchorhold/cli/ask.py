"""`anchorhold ask`: verify, then ask, and stream the answer as it comes. Data on stdout, people on stderr."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from anchorhold.attestation.channel.body import MAX_NEW_TOKENS, MAX_TEMPERATURE, Message, Role
from anchorhold.attestation.channel.client import Delta, Finished, VerifiedReceipt
from anchorhold.attestation.channel.padding import Padding
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.transcript.kept import KeptReceipt
from anchorhold.cli.credential import add_credential_options, tenant_of
from anchorhold.cli.main import CANNOT_RUN, REFUSED, CommandError
from anchorhold.cli.page import page
from anchorhold.cli.subparsers import Subparsers
from anchorhold.cli.tier import padding_of
from anchorhold.cli.trust import chosen_trust
from anchorhold.cli.values import listen, model_digest, whole
from anchorhold.client.errors import ClientError, ReleaseListMissing, RequestInvalid, Unavailable
from anchorhold.client.hops import NONE, UNKNOWN, Hop
from anchorhold.client.releases import Releases
from anchorhold.client.sdk import DEFAULT_MAX_TOKENS, Client, Settings
from anchorhold.client.session import Session
from anchorhold.client.session_set import MAX_ENCLAVES, SessionSet
from anchorhold.client.trust import Trust

MAX_QUESTION = 1 << 20  # bytes read from stdin


def add_parser(subparsers: Subparsers) -> None:
    """Adds `ask`."""
    parser = subparsers.add_parser(
        "ask",
        help="ask a question over a verified channel and stream the answer",
        **page(
            """Verify the enclave, seal the question to it, stream the answer, verify the receipt. Nothing is sent
            before the evidence agrees with the trust file.

            The answer goes to stdout, what is to be said about it to stderr. Text streamed before an error is
            provisional: nobody vouches that it is whole.

            A tenant asks with its credential and the key that signs for it, and can name one of the adapters in the
            credential; the receipt says which one answered.""",
            example="""
                anchorhold ask "What is the capital of France?"
                git diff | anchorhold ask --system "Review this." -
                anchorhold ask --credential acme.credential --credential-key acme.pem --adapter HEX "Hello." """,
            codes="0 answered with a verified receipt, 1 evidence contradicted or the enclave refused, 2 cannot run",
        ),
    )
    parser.add_argument("question", help="what to ask; - reads it from stdin")
    parser.add_argument("--trust", type=Path, metavar="FILE", help="default: what `trust init` pinned")
    parser.add_argument(
        "--releases", type=Path, metavar="FILE", help="the release list; default: where the trust file says it lies"
    )
    parser.add_argument("--gateway", type=listen, metavar="HOST:PORT", help="default: the one in the trust file")
    parser.add_argument(
        "--enclaves",
        type=whole(1, MAX_ENCLAVES),
        default=1,
        metavar="N",
        help="seal to as many verified enclaves, if there are; each can read it, one answers (default: 1)",
    )
    parser.add_argument("--system", metavar="TEXT", help="a system message before the question")
    parser.add_argument(
        "--max-tokens",
        type=whole(1, MAX_NEW_TOKENS),
        default=DEFAULT_MAX_TOKENS,
        metavar="N",
        help="length of the answer, tokens",
    )
    parser.add_argument(
        "--temperature-milli",
        type=whole(0, MAX_TEMPERATURE),
        default=0,
        metavar="N",
        help="thousandths; 0 (the default) is greedy",
    )
    add_credential_options(parser)
    parser.add_argument(
        "--adapter",
        type=model_digest,
        metavar="HEX",
        help="the digest of an adapter that the credential lists; default: none, the model as it is",
    )
    parser.add_argument("--reason", metavar="CODE", help="purpose; default: the deployment's first")
    parser.add_argument(
        "--padding",
        choices=[one.value for one in Padding],
        help="what sizes and times give away: off shows sizes, basic frame counts; strict sends at a fixed pace; "
        "default: basic, or strict where the tier asks for it",
    )
    parser.add_argument(
        "--tier", metavar="NAME", help="send nothing unless the deployment proves what this tier of the trust file asks"
    )
    parser.add_argument("--hops", action="store_true", help="say each hop of the request and its key exchange")
    parser.add_argument("--receipt", type=Path, metavar="FILE", help="keep the receipt for an auditor")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end instead of text")
    parser.set_defaults(run=_ask)


def _ask(options: argparse.Namespace) -> int:
    _, trust = chosen_trust(options.trust)
    if options.gateway is not None:
        trust = replace(trust, gateway=options.gateway)
    settings = Settings(
        max_tokens=options.max_tokens,
        temperature_milli=options.temperature_milli,
        reason=options.reason,
        padding=padding_of(trust, options.padding, options.tier),
        adapter=options.adapter,
        tier=options.tier,
    )
    tenant = tenant_of(options, () if options.adapter is None else (options.adapter,))
    try:
        releases = _releases(trust, options.releases)
        with Client(trust, tenant=tenant, releases=releases, enclaves=options.enclaves) as client:
            return _stream(client, _conversation(options), settings, options)
    except Unavailable as error:
        raise CommandError(str(error), hint="is the stack up? anchorhold sim up", code=CANNOT_RUN) from error
    except (ReleaseListMissing, RequestInvalid) as error:
        raise CommandError(str(error), hint=error.hint, code=CANNOT_RUN) from error
    except ClientError as error:
        raise CommandError(str(error), hint=error.hint, code=REFUSED) from error


def _releases(trust: Trust, source: Path | None) -> Releases | None:
    if trust.releases is not None:
        return Releases(trust, trust.releases, source=source)
    if source is not None:
        raise CommandError("--releases: the trust file pins measurements by hand, no list is asked")
    return None


def _stream(client: Client, conversation: tuple[Message, ...], settings: Settings, options: argparse.Namespace) -> int:
    pieces: list[str] = []
    finished: Finished | None = None
    verified = client.verify()
    if options.hops:
        _say_hops(client.hops(verified))
    if verified.channel.evidence.simulated:
        sys.stderr.write("anchorhold: simulated: the evidence hangs under a toy root, no hardware stands behind it\n")
    try:
        for event in client.stream(conversation, settings):
            if isinstance(event, Delta):
                pieces.append(event.text)
                if not options.json:
                    print(event.text, end="", flush=True)
            else:
                finished = event
    except (EvidenceError, ClientError):
        if pieces:
            if not options.json:
                print(flush=True)
            sys.stderr.write("anchorhold: the text above is provisional: no receipt came for it\n")
        raise
    session, held = client.session, client.sealed_to
    assert finished is not None, "a stream without Finished raises"
    assert session is not None, "an answer comes over a verified session"
    assert held is not None, "as above"
    if options.receipt is not None:
        options.receipt.write_bytes(_kept(finished.receipt))
    if options.json:
        summary = _summary("".join(pieces), finished, session, held, client.resealed)
        told = {"tier": settings.tier, "hops": [hop.as_json() for hop in client.hops(session)]}
        print(json.dumps({**summary, **told}, indent=2))
    else:
        print(flush=True)
        _say(finished, session, held, client.resealed)
    return 0


def _say_hops(hops: Sequence[Hop]) -> None:
    for hop in hops:
        strength = {True: ", post-quantum", False: ", classical", None: ""}[hop.post_quantum]
        exchange = hop.key_exchange if hop.key_exchange in (NONE, UNKNOWN) else f"{hop.key_exchange}{strength}"
        covered = f" ({hop.covered})" if hop.covered else ""
        sys.stderr.write(
            f"anchorhold: hop {hop.name}: {exchange}{covered}; {hop.status.value}; ends at {hop.ends_at}\n"
        )


def _kept(receipt: VerifiedReceipt) -> bytes:
    return KeptReceipt(receipt.raw, receipt.salt, receipt.tag).encode()


def _conversation(options: argparse.Namespace) -> tuple[Message, ...]:
    question = _read_stdin() if options.question == "-" else options.question
    for text in (question, options.system or ""):
        if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
            raise CommandError("the question is not UTF-8 text")
    system = () if options.system is None else (Message(Role.SYSTEM, options.system),)
    return (*system, Message(Role.USER, question))


def _read_stdin() -> str:
    raw = sys.stdin.buffer.read(MAX_QUESTION + 1)
    if len(raw) > MAX_QUESTION:
        raise CommandError(f"stdin: expected at most {MAX_QUESTION} bytes")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CommandError("stdin: expected UTF-8 text") from error


def _summary(text: str, finished: Finished, session: Session, held: SessionSet, resealed: int) -> dict[str, object]:
    receipt = finished.receipt.receipt
    return {
        "answer": text,
        "finish": finished.finish.reason.value,
        "prompt_tokens": finished.finish.prompt_tokens,
        "completion_tokens": finished.finish.completion_tokens,
        "simulated": session.channel.evidence.simulated,
        "platform": session.channel.evidence.platform.value,
        "release": session.release,
        "resealed": resealed,
        "sealed_to": [_enclave(one) for one in held.sessions],
        "answered_by": _enclave(session),
        "refused": [{"enclave": one.enclave, "code": one.code, "why": one.why} for one in held.refused],
        "lease_end": session.lease_end,
        "custodians": [
            {
                "source": held.lease.source,
                "custodian": held.custodian,
                "asserted": held.asserted,
                "keystore": held.lease.keystore,
            }
            for held in session.leases
        ],
        "receipt": {
            "verified": True,
            "raw": finished.receipt.raw.hex(),
            "tag": finished.receipt.tag.hex(),
            "commitment": finished.receipt.commitment.hex(),
            "request": receipt.request.hex(),
            "response": receipt.response.hex(),
            "model": receipt.model.hex(),
            "adapter": None if receipt.adapter is None else receipt.adapter.hex(),
            "statement": receipt.statement.hex(),
            "purpose": receipt.purpose,
            "lease": None if receipt.lease is None else receipt.lease.hex(),
            "sequence": receipt.sequence,
        },
    }


def _enclave(session: Session) -> dict[str, str]:
    """Which boot, and under which statement: the receipt names that one too."""
    return {"boot": session.channel.serve.boot_id.hex(), "statement": session.channel.statement.hex()}


def _say(finished: Finished, session: Session, held: SessionSet, resealed: int) -> None:
    finish, receipt = finished.finish, finished.receipt.receipt
    adapter = "" if receipt.adapter is None else f"adapter {receipt.adapter.hex()[:16]}, "
    sys.stderr.write(
        f"anchorhold: receipt {receipt.sequence} verified: model {receipt.model.hex()[:16]}, {adapter}"
        f"{receipt.purpose}, {finish.prompt_tokens} + {finish.completion_tokens} tokens, {finish.reason.value}\n"
    )
    if len(held.sessions) > 1:
        boot = session.channel.serve.boot_id.hex()[:16]
        sys.stderr.write(f"anchorhold: sealed to {len(held.sessions)} enclaves, answered by boot {boot}\n")
    for one in held.refused:
        sys.stderr.write(f"anchorhold: enclave {one.enclave!r} was sealed nothing: {one.code}: {one.why}\n")
    if session.release is not None:
        sys.stderr.write(f"anchorhold: release {session.release}, accepted by the signers in the trust file\n")
    if resealed:
        sys.stderr.write(f"anchorhold: sealed again {resealed} times after an unauthenticated hint\n")
    for lease in session.leases:
        said = "keystore not said" if lease.asserted else f"asserted: {lease.lease.keystore}"
        sys.stderr.write(f"anchorhold: share {lease.lease.source} by {lease.custodian} ({said})\n")
    if len({held.custodian for held in session.leases}) < len(session.leases):
        sys.stderr.write("anchorhold: same custodian: one party holds more than one share of the model key\n")
