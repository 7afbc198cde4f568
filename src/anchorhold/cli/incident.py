"""`anchorhold authority incident open|contain|reencrypt|report`: a compromised key, from the first word to the report.

The owner's journal is the incident's memory, or without an owner authority a file of the operator's: a command that was
cut off is given again, and goes on where it was.
"""

import argparse
import json
import secrets
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from anchorhold.attestation import canonical
from anchorhold.attestation.lease import MAX_TTL_MS, MIN_TTL_MS
from anchorhold.attestation.types import ModelDigest
from anchorhold.authority.incident.report import as_json, as_markdown
from anchorhold.authority.incident.silence import Silence, proved
from anchorhold.authority.incident.uses import KMS
from anchorhold.authority.kms.client import KmsFailed
from anchorhold.authority.owner.client import AdminFailed, retire_key
from anchorhold.authority.owner.incidents import Note
from anchorhold.cli.incident_facts import Facts, KmsSource, gather, incident_of, silences, until_silence_ms
from anchorhold.cli.incident_file import IncidentFile
from anchorhold.cli.incident_memory import Memory, memory_of, opened_at, to_open
from anchorhold.cli.main import REFUSED, CommandError
from anchorhold.cli.page import page
from anchorhold.cli.revoke import LIMITS, order
from anchorhold.cli.subparsers import Subparsers
from anchorhold.cli.target import Target, add_target_options, read_stack
from anchorhold.cli.times import moment_text, now_ms
from anchorhold.cli.values import seconds

TAG = "anchorhold-incident"
POLL_S = 0.5
MAX_WAIT_S = 7_200  # two of the longest leases
GRACE_MS = 1_000  # past the last lease's end: clocks of authority and command
DELETION_DAYS = 7  # the shortest that AWS allows: until then an auditor may still ask for the old key
_CODES = (
    "0 done, 1 silence is not proved or an authority refused, 2 cannot run, 3 no journal was given to judge silence by"
)


def add_incident(commands: Subparsers) -> None:
    """Adds `incident` with its commands."""
    group = commands.add_parser(
        "incident",
        help="a compromised key: open, contain, reencrypt, report",
        **page(
            """Lead an incident from its opening to its report. Every step is in the owner's journal, and where the KMS
            takes tags, in the KMS's: given again after a crash, a command goes on where it was.

            A KMS-only deployment has no owner's journal: where no owner authority is named and a KMS key is, the steps
            are in a file in --incident-state, asserted by the operator. Silence is judged by the KMS's journal.""",
            example="""
                anchorhold authority incident open --stack .cache/sim --reason 'laptop stolen'
                anchorhold authority incident contain INC-3f9a12 --stack .cache/sim
                anchorhold authority incident reencrypt INC-3f9a12 --stack .cache/sim --out resealed
                anchorhold authority incident report INC-3f9a12 --stack .cache/sim --out report""",
            codes=_CODES,
        ),
    )
    steps = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    opened = _command(steps, "open", "say that a key or a model is compromised; prints the incident's id", _open)
    opened.add_argument("--id", metavar="ID", help="by default one is drawn")
    opened.add_argument("--model", metavar="ID", help="its digest D; with --stack also the model's id")
    opened.add_argument("--key", default="", metavar="ID", help="KMS key ARN or wrapping key; none: the model as such")
    contain = _command(steps, "contain", "revoke at every authority named, then wait until silence is proved", _contain)
    contain.add_argument(
        "--no-wait", dest="wait", action="store_false", help="judge now, do not wait for leases to end"
    )
    again = _command(steps, "reencrypt", "seal the model anew under new keys, end the old ones", _reencrypt)
    again.add_argument("--out", type=Path, required=True, metavar="DIR", help="the sealed model to make")
    report = _command(steps, "report", "write every use of the key, and the proof of silence", _report)
    report.add_argument("--out", type=Path, required=True, metavar="DIR", help="gets report.json and report.md")
    for parser in (contain, again, report):
        parser.add_argument("incident", metavar="ID", help="what `incident open` printed")
        parser.set_defaults(model=None)
    for parser in (contain, report):
        parser.add_argument("--kms-state", type=Path, metavar="DIR", help="read the KMS's journal in its state folder")
        parser.add_argument("--kms-journal", type=Path, metavar="FILE", help="or its export, JSON lines")
        parser.add_argument("--kms-journal-key", metavar="HEX", help="the key that signs that journal")
        parser.add_argument(
            "--kms-lease",
            type=seconds(MIN_TTL_MS / 1000, MAX_TTL_MS / 1000),
            metavar="SECONDS",
            help="the longest lease of a configuration that used the KMS key; default: the stack's, or 3600",
        )


def _command(
    steps: Subparsers, name: str, what: str, run: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    given = {"open": "--reason lost", "contain": "INC-3f9a12"}.get(name, "INC-3f9a12 --out DIR")
    example = f"anchorhold authority incident {name} {given}"
    parser = steps.add_parser(name, help=what, **page(f"{what[0].upper()}{what[1:]}.", example=example, codes=_CODES))
    parser.add_argument("--reason", default="incident", metavar="TEXT", help="for the journals, at most 128 bytes")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--incident-state",
        type=Path,
        metavar="DIR",
        help="KMS-only deployment: the folder of incident files; default with --stack: incidents in the stack's folder",
    )
    add_target_options(parser)
    parser.set_defaults(run=run)
    return parser


def _open(options: argparse.Namespace) -> int:
    target, key = Target.of(options), options.key
    incident = options.id or f"INC-{secrets.token_hex(4)}"
    memory = memory_of(options, target, incident)
    if isinstance(memory, IncidentFile):
        target, key = to_open(options, target)
    number = memory.note(Note(incident, "open", target.model, key, options.reason, {"kms_key": target.key_arn}))
    where = {"file": str(memory.path), "line": number} if isinstance(memory, IncidentFile) else {"owner_entry": number}
    tagged = _tag(target, incident)
    _show(options, {"incident": incident, "model": target.model.hex(), **where, "kms": tagged})
    return 0


def _contain(options: argparse.Namespace) -> int:
    target, source, memory, file = _led(options)
    # What stops it comes first: a journal of any length, or one that does not hold, is read when nobody gets a lease.
    model, key = memory.opened()
    named = target.about(model) if file is None else target
    at = "kms" if file is not None else "both" if named.key_arn else "owner"
    ordered = order(named, at, f"{options.incident}: {options.reason}"[:128])
    for failure in ordered.failed:
        sys.stderr.write(f"anchorhold: {failure} (done at the {ordered.at}, which suffices)\n")
    sys.stderr.write(f"anchorhold: revoked at {ordered.at}\n")
    memory.note(Note(options.incident, "contain", model, key, options.reason, {"at": ordered.at}))
    facts = gather(target, options.incident, source, file)
    if facts.model != model:
        two = f"expected {model.hex()}, which is revoked, got {facts.model.hex()} first"
        raise CommandError(f"{options.incident!r} was opened for two models: {two}", hint="open two", code=REFUSED)
    if options.wait and (left := until_silence_ms(target, facts, source)) is not None:
        _wait(left + GRACE_MS)
        facts = gather(target, options.incident, source, file)
    found = silences(target, facts)
    if proved(found):
        _noted(options, memory, "silent", facts, {one.authority: one.why for one in found})
    if options.json:
        print(json.dumps({"silent": proved(found), "authorities": [asdict(one) for one in found]}, indent=2))
    else:
        print("\n".join(_silence_lines(found)))
    return _judged(source, found)


def _reencrypt(options: argparse.Namespace) -> int:
    target, source, memory, file = _led(options)
    facts = gather(target, options.incident, source if file is not None else KmsSource(None, None, None), file)
    target = target.about(facts.model)
    # A step in the operator's own file proves nothing: where the KMS's journal is at hand, it is judged again.
    unproved = facts.owner is None and facts.kms is not None and not proved(silences(target, facts))
    if unproved or not any(one.step == "silent" for one in facts.steps):
        raise CommandError("silence was not proved yet: what runs could be renewed", hint="incident contain", code=1)
    if target.stack is None:
        _show(options, {"incident": options.incident, "steps": _steps_by_hand(facts.model, owner=file is None)})
        return 0
    if facts.model.hex() != read_stack(target.stack).get("model"):
        # What the stack can seal anew is its own model: for another D its keys, which that model needs, would end.
        raise CommandError(
            f"{options.incident!r} is about {facts.model.hex()}, which is not the stack's model; nothing was ended",
            hint="an adapter is sealed from the plaintext as another version, or by hand (lifecycle.md 4)",
            code=REFUSED,
        )
    from anchorhold.cli.reseals import reseal_stack, resealed_facts

    reason = f"{options.incident}: {options.reason}"[:128]
    resume = options.out.exists()
    done = resealed_facts(target.stack, options.out) if resume else reseal_stack(target.stack, options.out, reason)
    old, new = _texts(done["old"]), _texts(done["new"])
    if kept := set(old.values()) & set(new.values()):
        raise CommandError(
            f"{str(options.out)!r} has keys that the stack's model has: {', '.join(sorted(kept))}; nothing was ended",
            hint="was it adopted already? Old keys are ended by `authority retire` (a tenant's: `tenant-retire`), "
            "and at the KMS by hand",
            code=REFUSED,
        )
    ended = _end_old_keys(target, old, reason)
    said: dict[str, canonical.Value] = {
        "manifest": str(done["manifest"]),
        "before": str(done["before"]),
        **{f"new_{name}": key for name, key in new.items()},
        **{f"old_{name}": key for name, key in old.items()},
        **ended,
    }
    _noted(options, memory, "reencrypt", facts, said)
    _show(options, {"incident": options.incident, **done, "ended": ended})
    return 0


def _report(options: argparse.Namespace) -> int:
    target, source, memory, file = _led(options)
    facts = gather(target, options.incident, source, file)
    incident = incident_of(target, options.incident, facts)
    options.out.mkdir(parents=True, exist_ok=True)
    for name, text in (("report.json", as_json(incident)), ("report.md", as_markdown(incident))):
        (options.out / f".{name}").write_text(text)
        (options.out / f".{name}").replace(options.out / name)
    _noted(options, memory, "report", facts, {one.authority: one.digest for one in incident.heads})
    _show(
        options,
        {
            "incident": options.incident,
            "silent": incident.silent,
            "uses": len(incident.uses),
            "denials": incident.denials,
            "report": str(options.out / "report.md"),
        },
    )
    return _judged(source, incident.silences)


def _led(options: argparse.Namespace) -> tuple[Target, KmsSource, Memory, IncidentFile | None]:
    """What a step after the opening is about, and reads; with the file where no owner authority remembers."""
    target = Target.of(options, model=False)
    memory = memory_of(options, target, options.incident)
    source = KmsSource(None, None, None)
    if "kms_state" in options:
        lease_ms = None if options.kms_lease is None else round(options.kms_lease * 1000)
        source = KmsSource(options.kms_state, options.kms_journal, options.kms_journal_key, lease_ms)
    if not source.given and target.stack is not None and target.credentials is not None:
        source = replace(source, state=target.credentials.parent)  # a simulated stack's KMS is a folder beside them
    if not isinstance(memory, IncidentFile):
        return target, source, memory, None
    return opened_at(options, target, memory), source, memory, memory


def _judged(source: KmsSource, found: Sequence[Silence]) -> int:
    """The exit code. What is missing for a proof by an export, or for any at all, is said."""
    if proved(found):
        return 0
    if not found:
        raise CommandError(
            "silence cannot be judged: no owner authority is named, and no KMS's journal was given",
            hint="--kms-state DIR, or --kms-journal FILE with --kms-journal-key. AWS has none in this form: "
            "in CloudTrail a person finds the last Decrypt, and adds the lease and what the KMS takes to obey",
            code=LIMITS,
        )
    if len(found) == 1 and found[0].authority == KMS and source.state is None:
        last, end = moment_text(found[0].asked_at), moment_text(found[0].last_lease_end)
        sys.stderr.write(
            f"anchorhold: hint: the export's last entry is of {last}: it needs the DisableKey, no use after it, and "
            f"any entry after the last lease's end, {end}; call the KMS then, and export again\n"
        )
    return REFUSED


def _wait(ms: int) -> None:
    """Until leases have ended; said every few seconds, so that nobody takes it for a hang."""
    until = time.monotonic() + min(max(ms, 0) / 1000, MAX_WAIT_S)
    while (left := until - time.monotonic()) > 0:
        sys.stderr.write(f"waiting for the last lease to end: {left:.0f} s\n")
        sys.stderr.flush()
        time.sleep(min(left, 10 * POLL_S))


def _noted(
    options: argparse.Namespace, memory: Memory, step: str, facts: Facts, said: Mapping[str, canonical.Value]
) -> None:
    memory.note(Note(options.incident, step, facts.model, facts.key, options.reason, said))


def _kms(target: Target, operation: str, members: dict[str, object]) -> str:
    """`done`, or the KMS's own refusal: what a KMS cannot do is said, and stops no incident."""
    try:
        target.kms().call(operation, members, at=datetime.fromtimestamp(now_ms() / 1000, UTC))
    except KmsFailed as error:
        return f"{operation}: {error.code}"
    return "done"


def _tag(target: Target, incident: str) -> str:
    if not target.key_arn:
        return "no KMS is named"
    tags = [{"TagKey": TAG, "TagValue": incident}]
    return _kms(target, "TagResource", {"KeyId": target.key_arn, "Tags": tags})


def _end_old_keys(target: Target, old: Mapping[str, str], reason: str) -> dict[str, str]:
    ended: dict[str, str] = {}
    for name, key in old.items():
        if key.startswith("arn:"):
            members: dict[str, object] = {"KeyId": key, "PendingWindowInDays": DELETION_DAYS}
            ended[f"end_{name}"] = _kms(target, "ScheduleKeyDeletion", members)
            continue
        try:
            retire_key(target.owner(), key, reason, lose=target.model)
            ended[f"end_{name}"] = "retired"
        except AdminFailed as error:
            ended[f"end_{name}"] = str(error)[:256]
    return ended


def _texts(value: object) -> dict[str, str]:
    return {str(name): str(text) for name, text in value.items()} if isinstance(value, dict) else {}


def _steps_by_hand(model: ModelDigest, *, owner: bool) -> list[str]:
    """What an operator of a platform that is not simulated does, in order (docs/spec/lifecycle.md 4)."""
    if not owner:
        return [line for line in map(_without_owner, _steps_by_hand(model, owner=True)) if line]
    return [
        "anchorhold authority rotate | tenant-rotate --reason ID; CreateKey at the KMS, with nobody allowed to decrypt",
        "resealing configuration: the deployment's, with purpose_class and purposes `reseal`, and new keys",
        "new KMS key: GenerateDataKey for enclaves with these registers 0, 1, 2 and 16, Encrypt for the enclave",
        "old KMS key: Decrypt for the same registers alone, then EnableKey",
        f"anchorhold authority reseal order --model {model.hex()} --measurements FILE --for 1h --reason ID",
        "start parent (with `resealed`) and enclave with that configuration; wait for its close record `resealed`",
        "DisableKey and ScheduleKeyDeletion for the old KMS key; anchorhold authority reseal end",
        "anchorhold model sign DIR --before OLD --signer S --root PEM --transcript LOG --trust TRUST",
        "deploy; anchorhold authority retire | tenant-retire --key OLD --lose-model D; anchorhold authority reinstate",
    ]


def _without_owner(line: str) -> str:
    return "; ".join(part for part in line.split("; ") if not part.startswith("anchorhold authority"))


def _silence_lines(found: tuple[Silence, ...]) -> list[str]:
    lines = [f"silence      {'PROVED' if proved(found) else 'NOT PROVED'}"]
    for one in found:
        at = f"entries 0 to {one.entries - 1} read"
        lines.append(f"{one.authority:<12} {'proved' if one.proved else 'not proved'}: {one.why} ({at})")
    return lines


def _show(options: argparse.Namespace, fields: Mapping[str, object]) -> None:
    if options.json:
        print(json.dumps(dict(fields), indent=2))
        return
    for name, value in fields.items():
        if isinstance(value, list):
            print("\n".join(f"{number}. {one}" for number, one in enumerate(value, 1)))
        else:
            print(f"{name:<12} {value}")
