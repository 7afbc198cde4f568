"""`anchorhold model reseal|sign`: a model under new keys, made in an enclave, then checked and signed outside."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.transcript.bodies import Reseal
from anchorhold.attestation.transcript.report import Status
from anchorhold.audit.folder import CannotRead
from anchorhold.audit.verify import audit
from anchorhold.cli.deaths import TranscriptUnreadable, unverified_entries
from anchorhold.cli.main import REFUSED, CommandError
from anchorhold.cli.page import page
from anchorhold.cli.sim import DEFAULT_STATE
from anchorhold.cli.subparsers import Subparsers
from anchorhold.publish.resealed import check_resealed, sign_resealed
from anchorhold.publish.signing import load_root, load_signer
from anchorhold.publish.verify import verify_sealed
from anchorhold.sim.processes import StackError

Runs = Callable[[argparse.ArgumentParser, Callable[[argparse.Namespace], dict[str, object]]], None]
_CODES = "0 done, 1 refused, 2 cannot run"


def add_reseals(commands: Subparsers, runs: Runs) -> None:
    """Adds `reseal` and `sign`."""
    reseal_ = commands.add_parser(
        "reseal",
        help="seal a simulated stack's model anew under new keys, in an enclave, and sign it",
        **page(
            """Seal the model of a running simulated stack anew: new keys at both custodians, new shares, a new model
            key, new bodies, made in an enclave of its own that serves nobody. No plaintext is ever outside of it. D
            stays, what serves goes on, and the old keys stay as they were: end them once the new model serves. At the
            owner the new key is the newest wrapping key, or the newest key of the tenant whose model it is.""",
            example="anchorhold model reseal --stack .cache/sim --out resealed --reason 'incident 7'",
            codes=_CODES,
        ),
    )
    reseal_.add_argument("--stack", type=Path, default=DEFAULT_STATE, metavar="DIR", help="a running simulated stack")
    reseal_.add_argument("--out", type=Path, required=True, metavar="DIR", help="the sealed model to make")
    reseal_.add_argument("--reason", default="rotation", metavar="TEXT", help="for the journals, at most 128 bytes")
    runs(reseal_, run_reseal)
    adopt_ = commands.add_parser(
        "adopt",
        help="have a simulated stack that is down serve a resealed model at its next start",
        **page(
            "Put a resealed model in the place of the one a simulated stack served; the old one is kept beside it.",
            example="anchorhold sim down\nanchorhold model adopt resealed --stack .cache/sim\nanchorhold sim up",
            codes=_CODES,
        ),
    )
    adopt_.add_argument("sealed", type=Path, metavar="DIR", help="the resealed model")
    adopt_.add_argument("--stack", type=Path, default=DEFAULT_STATE, metavar="DIR", help="the stack's state folder")
    runs(adopt_, _adopt)
    sign_ = commands.add_parser(
        "sign",
        help="sign a model that an enclave sealed anew, once the transcript says that it did",
        **page(
            """Sign what a resealing left: the manifest must be the one that a verified transcript says an enclave made
            of the model before, with the same files and sources, new keys and new shares, and every hash must hold.""",
            example="""
                anchorhold model sign resealed --before sealed --signer signer --root signer/signer.root.pem \\
                    --transcript log --trust trust.json""",
            codes=_CODES,
        ),
    )
    sign_.add_argument("sealed", type=Path, metavar="DIR", help="the resealed model, not signed yet")
    sign_.add_argument("--before", type=Path, required=True, metavar="DIR", help="the sealed model it was made of")
    sign_.add_argument("--signer", type=Path, required=True, metavar="DIR", help="what `model signer` made")
    sign_.add_argument("--root", type=Path, required=True, metavar="PEM", help="the old signature's root certificate")
    sign_.add_argument("--transcript", type=Path, required=True, metavar="DIR", help="the log's transcript folder")
    sign_.add_argument(
        "--trust", type=Path, required=True, metavar="FILE", help="trust file of the resealing, or folder"
    )
    runs(sign_, sign)


def run_reseal(options: argparse.Namespace) -> dict[str, object]:
    """In simulation, up to the signature. Raises CommandError, PublishError or EvidenceError."""
    return reseal_stack(options.stack, options.out, options.reason)


def reseal_stack(state: Path, out: Path, reason: str) -> dict[str, object]:
    """The signed model in `out`, and which keys took the place of which."""
    from anchorhold.sim.reseal import Resealing, reseal

    work = out.with_name(f".{out.name}.unsigned")
    try:
        if out.exists():
            raise CommandError(f"{str(out)!r} is there already: a sealed model is never written over")
        if not work.exists():  # otherwise of a run that was cut off before it could sign
            reseal(Resealing(state, work, reason, say=lambda text: print(f"reseal: {text}", file=sys.stderr)))
    except StackError as error:
        raise CommandError(f"reseal: {error}", hint=error.hint, code=REFUSED) from error
    root = load_root(state / "signer")
    sign_folder(work, state / "model", root, state / "signer", state / "log", state / "trust")
    work.rename(out)
    return resealed_facts(state, out)


def resealed_facts(state: Path, out: Path) -> dict[str, object]:
    """What `out` is, and which keys took the place of which. Raises FolderRefused or EvidenceError."""
    signers = (load_root(state / "signer"),)
    old, new = verify_sealed(state / "model", signers), verify_sealed(out, signers)
    return {
        "model": new.manifest.digest.hex(),
        "sealed": str(out),
        "manifest": new.raw_digest.hex(),
        "before": old.raw_digest.hex(),
        "old": {one.source: one.key for one in old.manifest.shares},
        "new": {one.source: one.key for one in new.manifest.shares},
    }


def _adopt(options: argparse.Namespace) -> dict[str, object]:
    from anchorhold.sim.reseal import adopt
    from anchorhold.sim.stack import running

    if running(options.stack):
        raise CommandError(
            f"a stack is running in {options.stack}", hint=f"anchorhold sim down --state {options.stack}"
        )
    verified = verify_sealed(options.sealed, (load_root(options.stack / "signer"),))
    try:
        before = adopt(options.stack, options.sealed)
    except StackError as error:
        raise CommandError(f"adopt: {error}", hint=error.hint, code=REFUSED) from error
    return {"model": verified.manifest.digest.hex(), "before": str(before)}


def sign(options: argparse.Namespace) -> dict[str, object]:
    """Raises CommandError, PublishError or EvidenceError."""
    root = x509.load_pem_x509_certificate(options.root.read_bytes()).public_bytes(Encoding.DER)
    return sign_folder(options.sealed, options.before, root, options.signer, options.transcript, options.trust)


def sign_folder(
    sealed: Path, before: Path, root: bytes, signer: Path, transcript: Path, trust: Path
) -> dict[str, object]:
    """Sign `sealed`, which an enclave made of `before` according to the transcript."""
    old = verify_sealed(before, (root,))
    said = logged(transcript, trust, old.raw_digest)
    unsigned = check_resealed(sealed, old, said)
    sign_resealed(unsigned, load_signer(signer))
    return {
        "model": unsigned.manifest.digest.hex(),
        "sealed": str(sealed),
        "manifest": said.manifest.hex(),
        "before": said.before.hex(),
        "keys": list(said.keys),
    }


def logged(transcript: Path, trust: Path, before: bytes) -> Reseal:
    """The youngest resealing of that manifest in a transcript without a contradiction. Raises CommandError."""
    try:
        judged = audit(transcript, trust_files=[trust])
        failed = [one for one in judged.report.findings if one.status is Status.FAIL]
        if failed:
            raise CommandError(f"transcript: {failed[0].code.value}: {failed[0].detail}", code=REFUSED)
        entries = [one.body for one in unverified_entries(transcript)]
    except (CannotRead, TranscriptUnreadable, EvidenceError) as error:
        raise CommandError(f"transcript: {error}") from error
    found = [one for one in entries if isinstance(one, Reseal) and one.before == before]
    if not found:
        raise CommandError("no enclave in this transcript sealed that model anew", code=REFUSED)
    return found[-1]
