"""What an incident's commands read: journals of both authorities, checked from the first entry, and the transcript."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from anchorhold.attestation.configuration import decode_configuration
from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.journal import JournalChain, JournalEntry, check_journal, entry_digest
from anchorhold.attestation.lease import MAX_TTL_MS
from anchorhold.attestation.transcript.bodies import KeyDeny, KeyRelease
from anchorhold.attestation.types import Milliseconds, ModelDigest
from anchorhold.authority.incident.report import Ended, Head, Incident, Step
from anchorhold.authority.incident.silence import Silence, kms_silence, owner_silence
from anchorhold.authority.incident.uses import KMS, OWNER, KmsEvent, kms_events, kms_uses, owner_uses
from anchorhold.authority.owner.client import JOURNAL_PAGE, AdminFailed
from anchorhold.cli.deaths import Life, TranscriptUnreadable, lives, unverified_entries
from anchorhold.cli.incident_file import IncidentFile
from anchorhold.cli.journal_place import opened_place
from anchorhold.cli.main import REFUSED, CommandError
from anchorhold.cli.target import Target, failed
from anchorhold.cli.times import now_ms

PROPAGATION_MS = 0  # of the KMS face: an answered DisableKey is obeyed by the next call. AWS says "a few seconds"
PAGE = 512  # entries read at once
CONFIGURATION_FILE = "deployment.cbor"  # in a simulated stack's folder
NOT_CHECKED = (
    "what an attacker did with plaintext taken from elsewhere than through these keys",
    "that the journals shown are the only ones: heads in a witnessed log tell (anchorhold authority export)",
)


@dataclass(frozen=True, slots=True)
class KmsSource:
    """Where the KMS's journal is: a state folder, or its export with the journal key. And how long a lease is that
    stands on a use there, where somebody says so.
    """

    state: Path | None
    file: Path | None
    key: str | None
    lease_ms: int | None = None

    @property
    def given(self) -> bool:
        """Whether there is one."""
        return self.state is not None or self.file is not None


@dataclass(frozen=True, slots=True)
class Read:
    """A journal whose signatures and chain hold. It says nothing about what came after `until`."""

    entries: tuple[JournalEntry, ...]
    head: Head
    until: Milliseconds


@dataclass(frozen=True, slots=True)
class Facts:
    """All there is about one incident now. Without an owner authority `file` has the steps, and is nobody's word but
    the operator's.
    """

    owner: Read | None
    kms: Read | None
    steps: tuple[Step, ...]
    model: ModelDigest
    key: str
    kms_lease_ms: int
    file: str = ""
    torn: bool = False


def gather(target: Target, incident: str, source: KmsSource, file: IncidentFile | None = None) -> Facts:
    """Raises CommandError for an incident that nobody opened, a journal that does not hold, or an authority away."""
    if file is not None:
        return _asserted(target, source, file)
    status = _call(target, "status")
    key = status["journal_key"]
    now = status["now"]  # by its own clock, before its journal is asked for
    assert isinstance(key, bytes)
    assert isinstance(now, int)
    try:
        raw = target.owner().journal()
    except AdminFailed as error:
        raise failed(f"owner authority: {error}", error.code) from error
    owner = _checked(OWNER, raw, key, Milliseconds(now))
    noted = [one for one in owner.entries if one.type == "incident" and one.body.get("incident") == incident]
    opening = next((one for one in noted if _opens(one, incident)), None)
    if opening is None:
        raise _not_opened(incident)
    model, compromised = opening.body["model"], opening.body["key"]
    assert isinstance(model, bytes)
    steps = tuple(_step(one) for one in noted)
    read = _kms(source) if source.given else None
    return Facts(owner, read, steps, ModelDigest(model), str(compromised), _kms_lease(target, source))


def _asserted(target: Target, source: KmsSource, file: IncidentFile) -> Facts:
    said = file.lines()
    steps = tuple(
        Step(number, one.at, one.note.step, one.note.reason, one.note.facts) for number, one in enumerate(said.steps, 1)
    )
    first, read = said.steps[0].note, _kms(source) if source.given else None
    lease = _kms_lease(target, source)
    return Facts(None, read, steps, first.model, first.key, lease, file.path.name, said.torn)


def opened(target: Target, incident: str) -> tuple[ModelDigest, str]:
    """The model and the key an incident is about, by its last opening alone: enough to stop it before all is read.

    The journal is read from its end, page by page, and each page is checked against the entry before it. Raises
    CommandError for an incident that nobody opened, a page that does not hold, or an authority away.
    """
    status = _call(target, "status")
    raw_key, end = status["journal_key"], status["journal_entries"]
    assert isinstance(raw_key, bytes)
    assert isinstance(end, int)
    key, owner = Ed25519PublicKey.from_public_bytes(raw_key), target.owner()
    while end > 0:
        first = max(0, end - JOURNAL_PAGE)
        try:
            page, _ = owner.journal_page(first)
            chain = JournalChain(key, count=first + 1, head=entry_digest(page[0])) if first else JournalChain(key)
            openings = [one for one in map(chain.add, page[1:] if first else page) if _opens(one, incident)]
        except AdminFailed as error:
            raise failed(f"owner authority: {error}", error.code) from error
        except EvidenceError as error:
            hint = "anchorhold authority revoke --model ID stops it without the journal"
            raise CommandError(f"the journal of {OWNER} does not hold: {error}", hint=hint, code=REFUSED) from error
        if openings:
            model, compromised = openings[-1].body["model"], openings[-1].body["key"]
            assert isinstance(model, bytes)
            return ModelDigest(model), str(compromised)
        end = first + 1 if first else 0  # the first of this page was only looked past
    raise _not_opened(incident)


def silences(target: Target, facts: Facts) -> tuple[Silence, ...]:
    """What each authority's journal proves."""
    found = []
    if facts.owner is not None:
        found.append(owner_silence(facts.owner.entries, facts.model, facts.owner.until))
    events = () if facts.kms is None else kms_events(facts.kms.entries)
    if facts.kms is not None and (key := _arn(target, facts, events)):
        found.append(_kms_silence(facts, facts.kms, events, key))
    return tuple(found)


def incident_of(target: Target, incident: str, facts: Facts) -> Incident:
    """Everything a report says."""
    uses = [] if facts.owner is None else list(owner_uses(facts.owner.entries, facts.model))
    not_checked = [*NOT_CHECKED, *_only_asserted(facts)]
    ends, boots = _transcript(target, facts.model)
    if ends is None:
        not_checked.append("the enclaves' own records of their end: no transcript was given")
    if facts.kms is None:
        not_checked.append("the KMS's journal: none was given")
    else:
        events = kms_events(facts.kms.entries)
        key = _arn(target, facts, events)
        uses += kms_uses(events, key, boots)
        not_checked += [] if key else ["the KMS's journal: no key of this share is named"]
    return Incident(
        incident=incident,
        model=facts.model.hex(),
        key=facts.key,
        made=Milliseconds(now_ms()),
        steps=facts.steps,
        silences=silences(target, facts),
        ends=ends or (),
        uses=sorted(uses, key=lambda one: (one.t, one.authority, one.seq)),
        heads=[read.head for read in (facts.owner, facts.kms) if read is not None],
        not_checked=not_checked,
        asserted=facts.file,
    )


def until_silence_ms(target: Target, facts: Facts, source: KmsSource) -> int | None:
    """How long the last lease for serving goes on: by the owner's journal, or where none is named by the KMS's. None
    where waiting changes nothing: an export does not grow.
    """
    if facts.owner is None and source.state is None:
        return None
    told = silences(target, facts)
    return told[0].last_lease_end - told[0].asked_at if told else None


def _only_asserted(facts: Facts) -> list[str]:
    if facts.owner is not None:
        return []
    torn = ["the last line of the incident file, which has no end"] if facts.torn else []
    return ["the owner's journal: no owner authority is named", "the steps: asserted by the operator", *torn]


def _arn(target: Target, facts: Facts, events: Sequence[KmsEvent]) -> str:
    """The KMS key: the one named as compromised, the one of the first step that says, or the target's for this D.

    Empty where none is: that of a stack's own model says nothing about another D, or an adapter.
    """
    if facts.key.startswith("arn:"):
        return facts.key
    said = next((str(one.facts["kms_key"]) for one in facts.steps if one.facts.get("kms_key")), "")
    known = {key for one in events for key in one.keys}
    return said if said in known else target.about(facts.model).key_arn


def _transcript(target: Target, model: ModelDigest) -> tuple[tuple[Ended, ...] | None, Mapping[str, str]]:
    if target.transcript is None:
        return None, {}
    try:
        found = lives(target.transcript, model)
        entries = list(unverified_entries(target.transcript))
    except TranscriptUnreadable as error:
        raise CommandError(f"transcript: {error}") from error
    boots = {
        str(request): entry.boot.hex()
        for entry in entries
        if isinstance(entry.body, KeyRelease | KeyDeny)
        and (request := entry.body.facts.get("kms_request_id")) is not None
    }
    return tuple(_ended(life) for life in found), boots


def _ended(life: Life) -> Ended:
    """What the boot's record says of its end, or of the adapter's where it is about one."""
    if life.closed:
        return Ended(life.boot.hex(), "closed in order", None if life.death is None else life.death.wiped_ms)
    if life.death is not None:
        return Ended(life.boot.hex(), f"death: {life.death.reason}", life.death.wiped_ms)
    end = life.adapter_end
    return Ended(
        life.boot.hex(), "" if end is None else f"adapter: {end.reason}", None if end is None else end.wiped_ms
    )


def _kms(source: KmsSource) -> Read:
    """A state folder's journal is whole up to now; an export of it up to its last entry, whenever that was made."""
    if source.state is not None:
        place, now = opened_place(source.state), Milliseconds(now_ms())
        raw: list[bytes] = []
        try:
            while page := place.source.page(len(raw), PAGE):
                raw += page
        except OSError as error:
            raise CommandError(f"KMS journal: {error.strerror}") from error
        return _checked(KMS, raw, place.identity.key.public_bytes_raw(), now)
    assert source.file is not None
    if source.key is None:
        raise CommandError("KMS journal: its export needs --kms-journal-key")
    try:
        lines = [json.loads(line) for line in source.file.read_text().splitlines()]
        signed = {int(line["seq"]): base64.b64decode(line["signed"], validate=True) for line in lines}
        key = bytes.fromhex(source.key)
        Ed25519PublicKey.from_public_bytes(key)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CommandError(f"KMS journal: {str(source.file)!r} is not in the form: {type(error).__name__}") from error
    return _checked(KMS, [signed[seq] for seq in sorted(signed)], key, None)


def _checked(authority: str, raw: Sequence[bytes], key: bytes, now: Milliseconds | None) -> Read:
    try:
        entries = check_journal(raw, Ed25519PublicKey.from_public_bytes(key))
    except EvidenceError as error:
        raise CommandError(f"the journal of {authority} does not hold: {error}", code=REFUSED) from error
    digest = entry_digest(raw[-1]).hex() if raw else ""
    until = now if now is not None else entries[-1].t if entries else Milliseconds(0)
    return Read(entries, Head(authority, len(entries), digest, key.hex()), until)


def _opens(entry: JournalEntry, incident: str) -> bool:
    said = entry.body
    return entry.type == "incident" and said.get("step") == "open" and said.get("incident") == incident


def _not_opened(incident: str) -> CommandError:
    return CommandError(f"incident {incident!r} was not opened here", hint="anchorhold authority incident open")


def _step(entry: JournalEntry) -> Step:
    facts = entry.body["facts"]
    assert isinstance(facts, dict)
    return Step(entry.seq, entry.t, str(entry.body["step"]), str(entry.body["reason"]), facts)


def _kms_silence(facts: Facts, kms: Read, events: Sequence[KmsEvent], key: str) -> Silence:
    return kms_silence(events, key, facts.kms_lease_ms, PROPAGATION_MS, kms.head.entries, kms.until)


def _kms_lease(target: Target, source: KmsSource) -> int:
    """How long an enclave may serve on one Decrypt: its configuration's word, and the longest lease where none is read.

    What the owner registered for its own leases says nothing about it.
    """
    if source.lease_ms is not None:
        return source.lease_ms
    if target.stack is None:
        return MAX_TTL_MS
    try:
        configured = decode_configuration((target.stack / CONFIGURATION_FILE).read_bytes())
    except (OSError, EvidenceError):
        return MAX_TTL_MS
    return max((one.lease_ttl_ms for one in configured.sources if one.kind == KMS), default=MAX_TTL_MS)


def _call(target: Target, what: str) -> dict[str, object]:
    try:
        return dict(target.owner().call(what, {}))
    except AdminFailed as error:
        raise failed(f"owner authority: {error}", error.code) from error
