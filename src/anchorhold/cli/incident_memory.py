"""Where an incident's steps are remembered: in the owner's journal, or where no owner authority is named and a KMS is,
in a file of the operator's. What a command then has to stop, and where, follows from the same.
"""

import argparse
from typing import Protocol

from anchorhold.attestation import canonical
from anchorhold.attestation.types import ModelDigest
from anchorhold.authority.owner.client import AdminFailed
from anchorhold.authority.owner.incidents import Note
from anchorhold.cli.incident_facts import opened
from anchorhold.cli.incident_file import ARN, IncidentFile
from anchorhold.cli.main import REFUSED, CommandError
from anchorhold.cli.target import Target, failed

FOLDER = "incidents"  # in a simulated stack's folder, beside its authorities'


class Memory(Protocol):
    """Of one incident."""

    def opened(self) -> tuple[ModelDigest, str]:
        """The model and the key it is about. Raises CommandError."""
        ...

    def note(self, given: Note) -> int:
        """The number of the entry, or of the line. Raises CommandError."""
        ...


class OwnerJournal:
    """The owner authority remembers, and signs."""

    def __init__(self, target: Target, incident: str) -> None:
        self.target = target
        self.incident = incident

    def opened(self) -> tuple[ModelDigest, str]:
        """By the last opening there."""
        return opened(self.target, self.incident)

    def note(self, given: Note) -> int:
        """The number of the journal entry."""
        fields: dict[str, canonical.Value] = {
            "incident": given.incident,
            "step": given.step,
            "model": given.model,
            "key": given.key,
            "reason": given.reason,
            "facts": dict(given.facts),
        }
        try:
            seq = self.target.owner().call("incident", fields)["seq"]
        except AdminFailed as error:
            raise failed(f"incident: {error}", error.code) from error
        assert isinstance(seq, int)
        return seq


def memory_of(options: argparse.Namespace, target: Target, incident: str) -> OwnerJournal | IncidentFile:
    """Raises CommandError where neither is named, and where a file is named beside an owner authority."""
    folder = options.incident_state
    if any((target.owner_url, target.owner_ca, target.token_file)) or not (target.kms_url or target.key_arn):
        if folder is not None:
            raise CommandError(
                "--incident-state is for a deployment without an owner authority: an owner's journal has the steps",
                hint="leave it out",
            )
        return OwnerJournal(target, incident)
    if folder is None and target.stack is not None:
        folder = target.stack / FOLDER
    if folder is None:
        raise CommandError(
            "no owner authority is named, and no folder for the incident's steps",
            hint="a KMS-only deployment: --incident-state DIR. Otherwise --owner-url, --owner-ca and --token-file",
        )
    return IncidentFile(folder, incident)


def to_open(options: argparse.Namespace, target: Target) -> tuple[Target, str]:
    """A KMS-only deployment's target and its key, which is what such an incident is about. Raises CommandError."""
    key = options.key or target.key_arn
    if not key.startswith(ARN):
        raise CommandError(f"expected the ARN of the KMS's key, got {key!r:.100}", hint="--key-arn ARN")
    _same(options, key)
    aimed = target.under(key)
    aimed.kms()  # whether it is named is known before a file is made
    return aimed, key


def opened_at(options: argparse.Namespace, target: Target, file: IncidentFile) -> Target:
    """The target under the key that the incident was opened for: a stack may have another by now."""
    _, key = file.opened()
    _same(options, key)
    return target.under(key)


def _same(options: argparse.Namespace, key: str) -> None:
    if options.key_arn is not None and options.key_arn != key:
        raise CommandError(
            f"--key-arn: expected {key!r}, which the incident is about, got {options.key_arn!r:.200}; nothing was done",
            hint="leave it out, or open another incident",
            code=REFUSED,
        )
