"""What an owner's authority says reaches the auditor: a real authority, a real source and recorder, a real log."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.authority.guard.cases import entries
from tests.authority.guard.conftest import SIGNER, hex_of
from tests.enclave.log_bench import never_in_doubt

from anchorhold.attestation import canonical
from anchorhold.attestation.binding import Ask
from anchorhold.attestation.configuration import configuration_digest, pcr16
from anchorhold.attestation.lease import verify_lease
from anchorhold.attestation.purpose import Purpose
from anchorhold.attestation.transcript.bodies import KeyLease
from anchorhold.attestation.transcript.report import Code
from anchorhold.attestation.types import Milliseconds
from anchorhold.audit.verify import audit
from anchorhold.authority.guard import Face, Use
from anchorhold.authority.guard.memory import Memory
from anchorhold.authority.guard.reading import read_policy
from anchorhold.authority.guard.tickets import Ticket, sign_ticket
from anchorhold.authority.owner.authority import DATABASE
from anchorhold.authority.owner.state import SCHEMA, State
from anchorhold.cli.deaths import unverified_entries
from anchorhold.enclave.keys.keeper import Asked, Granted
from anchorhold.enclave.serve.recorder import Recorder
from anchorhold.sim.owner_face import MODEL, PURPOSE, Authority, owner_face
from anchorhold.sim.stage import BOOT
from anchorhold.sim.story import DISK_S, Story, configuration


@pytest.fixture
def authority(tmp_path: Path) -> Iterator[Authority]:
    with owner_face(tmp_path) as running:
        yield running


def booted(authority: Authority, folder: Path) -> Story:
    """A boot whose one source is that authority, registered there."""
    source = replace(authority.enclave().configured, lease_ttl_ms=10_000)
    chosen = replace(configuration(), model=MODEL, sources=(source,), purposes=(PURPOSE, "chat"))
    story = Story(authority.pki, folder / "log", chosen)
    story.clock.now = authority.clock.utc()
    digest = configuration_digest(story.raw_configuration)
    measured: dict[str, canonical.Value] = {str(index): BOOT[index] for index in (0, 1, 2)}
    authority.register(measurements=[{**measured, "16": pcr16(digest)}], purposes=[PURPOSE, "chat"])
    story.genesis()
    return story


def leased(authority: Authority, story: Story, purposes: tuple[Purpose, ...]) -> bytes:
    """A lease asked for and recorded as an enclave does it."""
    enclave = authority.enclave(
        nsm=story.nsm, boot_id=story.statement.boot_id, genesis=story.boot, receipt_key=story.receipt_key
    )
    recorder = Recorder(
        story.scribe,
        model=MODEL,
        purpose_class="serve",
        clock=never_in_doubt(story.clock.ms(), authority.clock.boottime),
        on_fault=pytest.fail,
    )
    asked = Asked("owner", "model-owner", Ask.LEASE, 1, tuple(one.reason for one in purposes))
    recorder.observe(asked)
    authority.clock.passed += 0.5  # before the sending
    released = enclave.source().request(Ask.LEASE, number=1, purposes=purposes)
    authority.clock.passed += 0.25  # after it
    recorder.observe(Granted(asked, released, released.sent_at_boottime + released.lease_ttl_ms / 1000))
    recorder.barrier(DISK_S)
    recorder.close()
    story.close()
    return released.lease


def said(story: Story, folder: Path) -> dict[Code, str]:
    result = audit(story.state, trust_files=[story.trust(folder, model=MODEL.hex())])
    assert not [one for one in result.report.findings if one.status.name == "FAIL"]
    return {one.code: one.detail for one in result.report.findings}


def test_a_ticket_registered_at_the_authority_is_backed_by_it_in_the_auditor_s_verdict(
    authority: Authority, tmp_path: Path
) -> None:
    story = booted(authority, tmp_path)
    policy = json.loads(str(authority.order("guard/show")["policy"]))
    entries(ticket=True)(policy, Use(Face.OWNER, "", "", ""))
    for other in policy["allow"][1:]:
        other["ticket"] = False
    policy["ticket_signers"] = [{"name": "plane", "key": hex_of(SIGNER)}]
    state = State.load(authority.state_dir / DATABASE)
    with state.connection() as connection:
        read = read_policy(json.dumps(policy))
        Memory(SCHEMA, connection).put_policy(read.digest, read.raw, authority.clock.ms())
    state.close()
    token = str(authority.order("guard/operator-add", name="olga", role="operator")["token"])
    now = authority.clock.ms()
    who = "enclave:" + BOOT[0].hex()
    ticket = Ticket(who, MODEL.hex(), "owner:Lease", PURPOSE, now, Milliseconds(now + 60_000), 1, b"n" * 16)
    raw = sign_ticket(ticket, SIGNER)
    assert authority.call("/v1/admin/guard/ticket", {"ticket": raw}, token)[0] == 200
    leased(authority, story, (Purpose(PURPOSE, ticket="4711"), Purpose("chat", ticket="4712")))
    words = said(story, tmp_path)[Code.PURPOSES]
    assert f"{PURPOSE}, for anybody, ticket '4711', approver '': backed by a signed ticket" in words
    assert "chat, for anybody, ticket '4712', approver '': asserted by the operator" in words


def test_the_keystore_of_the_authority_stands_in_the_auditor_s_verdict_as_its_word(
    authority: Authority, tmp_path: Path
) -> None:
    story = booted(authority, tmp_path)
    began = story.clock.ms()
    lease = leased(authority, story, (Purpose(PURPOSE),))
    bodies = [entry.body for entry in unverified_entries(story.state)]
    ends = [body.until_ms for body in bodies if isinstance(body, KeyLease)]
    assert ends == [began + 500 + 10_000], "counted from the sending"
    assert verify_lease(lease, authority.enclave().source()._lease_key).keystore == "software, key beside it"
    words = said(story, tmp_path)[Code.SIMULATED_CUSTODIAN]
    assert words == "a single share: owner by model-owner (asserted: software, key beside it)"
