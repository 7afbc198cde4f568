"""Making, signing and logging releases: what comes out is judged by the verifier alone."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.release.bundle import MAX_BUNDLE, Inclusion, UnverifiedBundle
from anchorhold.attestation.release.quorum import MAX_SIGNERS, Quorum, SignerRole
from anchorhold.attestation.release.signed import (
    MAX_ED25519,
    MAX_ML_DSA_65,
    Kind,
    Signature,
    UnverifiedSigned,
    parse_signed,
)
from anchorhold.attestation.release.statement import (
    MAX_SETS,
    MAX_STATEMENTS,
    Reason,
    ReleaseStatement,
    Revocation,
)
from anchorhold.attestation.release.verify import AcceptedReleases, NoAcceptedRelease, verify_releases
from anchorhold.attestation.transcript.append import AppendReply, AppendRequest
from anchorhold.attestation.transcript.checkpoint import MAX_NOTE, Vkey
from anchorhold.attestation.transcript.tree import MAX_ENTRY, MAX_PROOF, MAX_SIZE
from anchorhold.attestation.types import Milliseconds, Platform, Sha384
from anchorhold.log.server import append
from anchorhold.log.store import Store, StoreError, init_state
from anchorhold.publish.errors import PublishError
from anchorhold.publish.release import (
    KEY_FILE,
    PUBLIC_FILE,
    ReleaseRefused,
    ReleaseSigner,
    add_statements,
    create_signer,
    load_signer,
    new_bundle,
    read_bundle,
    read_signer,
    renew,
    revoke,
    sharing,
    sign_bundle,
    write_bundle,
)
from anchorhold.publish.release_log import LogRefused, LogUnavailable, log_statements
from anchorhold.publish.release_merge import merge

NOW = Milliseconds(1_800_000_000_000)
LIFE = 90 * 86_400_000
OWNER, OPERATOR = (ReleaseSigner.generate(role.value, role) for role in (SignerRole.OWNER, SignerRole.OPERATOR))
QUORUM = Quorum((OWNER.public, OPERATOR.public), 2, 1)
LOG_KEY = Ed25519PrivateKey.generate()


def statement(release: str = "1.0", fill: str = "a", product: str = "gateway") -> ReleaseStatement:
    registers = {index: fill.encode() * 48 for index in (0, 1, 2)}
    return ReleaseStatement(product, release, Platform.NITRO_ENCLAVE, (registers,), NOW, Milliseconds(NOW + LIFE))


def both(bundle: UnverifiedBundle) -> UnverifiedBundle:
    return sign_bundle(sign_bundle(bundle, OWNER), OPERATOR)


def signed(*statements: ReleaseStatement) -> UnverifiedBundle:
    return both(new_bundle(statements or (statement(),), issued_at=NOW))


def verify(bundle: UnverifiedBundle, log: Vkey | None = None, now: int = NOW) -> AcceptedReleases:
    return verify_releases(
        bundle.encode(),
        QUORUM,
        product="gateway",
        now=Milliseconds(now),
        max_list_age=Milliseconds(7 * 86_400_000),
        version_floor=0,
        log=log,
    )


class Log:
    """The real store, behind the function a log's address becomes. `change` spoils its answers."""

    def __init__(self, state: Path, origin: str = "log.example/1") -> None:
        self.vkey = init_state(state, origin, LOG_KEY)
        self.store = Store(state)
        self.asked: list[AppendRequest] = []
        self.change: Callable[[AppendReply], AppendReply] = lambda reply: reply

    def append(self, request: AppendRequest) -> AppendReply:
        self.asked.append(request)
        return self.change(AppendReply.decode(append(self.store, AppendRequest.decode(request.encode())).encode()))


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "log")


def test_a_signer_s_files_read_back_and_the_key_is_its_owner_s_alone(tmp_path: Path) -> None:
    public = create_signer(tmp_path / "owner", "alice", SignerRole.OWNER)
    assert load_signer(tmp_path / "owner").public == public == read_signer(tmp_path / "owner" / PUBLIC_FILE)
    assert (tmp_path / "owner" / KEY_FILE).stat().st_mode & 0o777 == 0o600
    seeds = json.loads((tmp_path / "owner" / KEY_FILE).read_text())
    shown = (tmp_path / "owner" / PUBLIC_FILE).read_text()
    assert seeds["ed25519_seed"] not in shown
    assert seeds["ml_dsa_65_seed"] not in shown
    with pytest.raises(FileExistsError):
        create_signer(tmp_path / "owner", "alice", SignerRole.OWNER)


def test_keys_whose_public_file_a_crash_prevented_are_finished_by_the_same_words(tmp_path: Path) -> None:
    folder = tmp_path / "owner"
    public = create_signer(folder, "alice", SignerRole.OWNER)
    (folder / PUBLIC_FILE).unlink()
    for name, role in (("bob", SignerRole.OWNER), ("alice", SignerRole.OPERATOR)):
        with pytest.raises(PublishError, match="ask for its name 'alice' and role owner"):
            create_signer(folder, name, role)
    assert not (folder / PUBLIC_FILE).exists()
    assert create_signer(folder, "alice", SignerRole.OWNER) == public == read_signer(folder / PUBLIC_FILE)
    assert sorted(one.name for one in folder.iterdir()) == [PUBLIC_FILE, KEY_FILE]
    # Half a private file, of whatever origin, is named and left alone.
    (folder / PUBLIC_FILE).unlink()
    (folder / KEY_FILE).write_text("{")
    with pytest.raises(PublishError, match="not readable"):
        create_signer(folder, "alice", SignerRole.OWNER)
    assert (folder / KEY_FILE).read_text() == "{"


def test_a_name_that_is_none_leaves_no_files(tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match="signer"):
        create_signer(tmp_path / "owner", "al ice", SignerRole.OWNER)
    assert not (tmp_path / "owner").exists()


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b'{"name": "a"}', b"\xff", b"[" * 10_000, b"[1]"])
def test_files_that_are_no_signer_are_refused(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / KEY_FILE).write_bytes(raw)
    for read, path in ((load_signer, tmp_path), (read_signer, tmp_path / KEY_FILE)):
        with pytest.raises(PublishError, match="release signer"):
            read(path)


def test_a_bundle_file_is_there_whole_and_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "releases"
    write_bundle(path, signed())
    later = both(renew(signed(), issued_at=Milliseconds(NOW + 1)))
    write_bundle(path, later)
    assert read_bundle(path) == later
    assert [one.name for one in tmp_path.iterdir()] == ["releases"]


def test_a_bundle_is_not_written_through_a_link_laid_beside_it(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / ".releases.new").symlink_to(victim)
    write_bundle(tmp_path / "releases", signed())
    assert victim.read_text() == "mine"
    assert not (tmp_path / "releases").is_symlink()
    assert (tmp_path / "releases").stat().st_mode & 0o777 == 0o644


def test_every_change_of_the_list_raises_its_version_and_takes_its_signatures(tmp_path: Path) -> None:
    first = signed()
    second = add_statements(first, [statement("2.0", "b")], issued_at=Milliseconds(NOW + 1))
    assert (second.unverified_list.version, second.list.signatures) == (2, ())
    # What was signed of the first statement stands; the new one has nothing yet.
    assert sorted(len(one.signed.signatures) for one in second.statements) == [0, 2]
    third = renew(second, issued_at=Milliseconds(NOW + 2))
    assert (third.unverified_list.version, third.list.signatures) == (3, ())
    assert len(verify(both(third)).accepted) == 2


def test_what_no_quorum_should_sign_is_not_made() -> None:
    first = signed()
    with pytest.raises(ReleaseRefused, match="one product"):
        new_bundle([statement(), statement(product="other")], issued_at=NOW)
    with pytest.raises(ReleaseRefused, match="one product"):
        new_bundle([], issued_at=NOW)
    with pytest.raises(ReleaseRefused, match="expected product 'gateway'"):
        add_statements(first, [statement(product="other")], issued_at=NOW)
    with pytest.raises(ReleaseRefused, match="already"):
        add_statements(first, [statement()], issued_at=NOW)
    with pytest.raises(ReleaseRefused, match="issued at"):
        renew(first, issued_at=Milliseconds(NOW - 1))
    with pytest.raises(ReleaseRefused, match="not in this bundle"):
        revoke(first, statement("9.9").digest, OWNER, reason=Reason.DEFECT, at=NOW)


def test_signing_twice_changes_nothing_and_a_spoilt_signature_is_made_again() -> None:
    bundle = signed()
    assert sign_bundle(bundle, OWNER) == bundle
    spoilt = replace(bundle.list.signatures[0], ed25519=b"")
    rest = bundle.list.signatures[1]
    broken = replace(bundle, list=replace(bundle.list, signatures=(spoilt, rest)))
    assert verify(both(broken)).accepted


def test_copies_of_one_draft_merge_and_others_do_not(log: Log) -> None:
    draft = new_bundle([statement()], issued_at=NOW)
    mine, theirs = sign_bundle(draft, OWNER), sign_bundle(draft, OPERATOR)
    theirs = revoke(theirs, statement().digest, OPERATOR, reason=Reason.DEFECT, at=NOW)
    together = merge(mine, theirs)
    assert merge(theirs, mine) == together
    assert len(together.list.signatures) == 2
    assert len(together.revocations) == 1
    assert verify(replace(together, revocations=())).accepted
    # Both began the same revocation: one thing with two signatures.
    again = replace(mine, revocations=(OWNER.sign(replace(theirs.revocations[0], signatures=())),))
    assert [len(one.signatures) for one in merge(again, theirs).revocations] == [2]
    # A proof is of the signatures it was made with.
    logged = log_statements(mine, log.append, log.vkey)
    assert merge(logged, theirs).statements[0].log is None
    whole = log_statements(replace(together, revocations=()), log.append, log.vkey)
    assert merge(mine, whole).statements == whole.statements
    for other in (renew(mine, issued_at=NOW), new_bundle([statement("2.0")], issued_at=NOW)):
        with pytest.raises(ReleaseRefused, match="version"):
            merge(mine, other)
    with pytest.raises(ReleaseRefused, match="same statements"):
        merge(mine, replace(mine, statements=()))


def test_the_list_stays_valid_while_a_release_in_it_is_revoked() -> None:
    bundle = signed(statement(), statement("2.0", "b"))
    revoked = revoke(bundle, statement().digest, OPERATOR, reason=Reason.DEFECT, at=NOW)
    assert revoked.list == bundle.list
    assert [one.release for one in verify(revoked).accepted] == ["2.0"]


def test_statements_that_share_a_measurement_set_are_named_together() -> None:
    again = statement("1.0-hotfix")
    bundle = signed(statement(), again, statement("2.0", "b"))
    found = {one.unverified_statement.release for one in sharing(bundle, again.digest)}
    assert found == {"1.0", "1.0-hotfix"}


def test_a_logged_statement_is_included_and_an_unlogged_one_refused(log: Log) -> None:
    bundle = signed(statement(), statement("2.0", "b"))
    logged = log_statements(bundle, log.append, log.vkey)
    verdict = verify(logged, log.vkey)
    assert verdict.logged
    assert len(verdict.accepted) == 2
    with pytest.raises(NoAcceptedRelease) as caught:
        verify(bundle, log.vkey)
    assert {code for _, code in caught.value.refused} == {"release-not-logged"}
    # Each answer extended the tree before it; what has a proof is not sent again.
    assert [one.since for one in log.asked] == [0, 1]
    assert log_statements(logged, log.append, log.vkey) == logged
    assert len(log.asked) == 2


def test_a_log_that_fails_at_a_later_statement_loses_no_earlier_proof(log: Log) -> None:
    bundle = signed(statement(), statement("2.0", "b"), statement("3.0", "c"))
    grown: list[UnverifiedBundle] = []

    def twice(request: AppendRequest) -> AppendReply:
        if len(log.asked) == 2:
            raise LogUnavailable("gone")
        return log.append(request)

    with pytest.raises(LogUnavailable):
        log_statements(bundle, twice, log.vkey, grown.append)
    assert [sum(one.log is not None for one in each.statements) for each in grown] == [1, 2]
    whole = log_statements(grown[-1], log.append, log.vkey)
    assert len(verify(whole, log.vkey).accepted) == len(log.asked) == 3


def test_a_renewed_list_keeps_its_proofs_and_a_new_signature_voids_one(log: Log) -> None:
    third = ReleaseSigner.generate("auditor", SignerRole.AUDITOR)
    logged = log_statements(signed(), log.append, log.vkey)
    assert verify(both(renew(logged, issued_at=NOW)), log.vkey).accepted
    assert sign_bundle(logged, third).statements[0].log is None


def test_a_proof_under_another_key_or_for_another_leaf_is_none(log: Log, tmp_path: Path) -> None:
    bundle = signed(statement(), statement("2.0", "b"))
    logged = log_statements(bundle, log.append, log.vkey)
    one, two = logged.statements
    with pytest.raises(NoAcceptedRelease):
        verify(replace(logged, statements=(replace(one, log=two.log), replace(two, log=one.log))), log.vkey)
    stranger = Vkey.of(log.vkey.name, Ed25519PrivateKey.generate().public_key())
    with pytest.raises(NoAcceptedRelease):
        verify(logged, stranger)
    # Another log's proof does not help, and asking this log makes its own.
    other = Log(tmp_path / "other", "log.example/2")
    assert verify(log_statements(logged, other.append, other.vkey), other.vkey).accepted


@pytest.mark.parametrize(
    "change",
    [
        lambda reply: replace(reply, index=reply.index + 1),
        lambda reply: replace(reply, proof=(b"p" * 32,)),
        lambda reply: replace(reply, checkpoint=reply.checkpoint.replace(b"\n1\n", b"\n2\n")),
        lambda reply: replace(reply, checkpoint=b""),
    ],
)
def test_an_answer_the_log_s_key_does_not_stand_for_is_refused(
    log: Log, change: Callable[[AppendReply], AppendReply]
) -> None:
    log.change = change
    with pytest.raises(LogRefused):
        log_statements(signed(), log.append, log.vkey)


def test_a_log_that_forgot_what_it_showed_is_refused(log: Log, tmp_path: Path) -> None:
    logged = log_statements(signed(), log.append, log.vkey)
    more = both(add_statements(logged, [statement("2.0", "b")], issued_at=NOW))
    fresh = Log(tmp_path / "fresh")  # the same key and origin, an empty history
    with pytest.raises(StoreError):
        log_statements(more, fresh.append, fresh.vkey)

    def forked(request: AppendRequest) -> AppendReply:
        fresh.append(AppendRequest(signed(statement("0.1", "e")).statements[0].signed.encode(), (), 0))
        return fresh.append(request)

    with pytest.raises(LogRefused, match="consistency"):
        log_statements(more, forked, fresh.vkey)


def test_the_log_takes_a_signed_statement_and_nothing_like_one(log: Log) -> None:
    bundle = signed()
    unsigned = new_bundle([statement()], issued_at=NOW).statements[0].signed.encode()
    leaf = bundle.statements[0].signed.encode()
    for junk in (unsigned, leaf[:-1], leaf + b"\x00", bundle.list.encode(), bundle.encode()):
        with pytest.raises(EvidenceError):
            log.store.append(junk, ())
    assert log.store.append(leaf, ()) == 0


def test_the_largest_statement_with_every_signature_fits_into_a_leaf() -> None:
    signers = [ReleaseSigner.generate(f"signer-{number}", SignerRole.CUSTOMER) for number in range(16)]
    sets = tuple(
        {index: bytes([number + 1, index]) + b"m" * 46 for index in (0, 1, 2, 8)} for number in range(MAX_SETS)
    )
    largest = replace(statement("r" * 64, product="p" * 64), measurements=sets)
    bundle = new_bundle([largest], issued_at=NOW)
    for signer in signers:
        bundle = sign_bundle(bundle, signer)
    leaf = bundle.statements[0].signed.encode()
    assert 55_000 < len(leaf) <= MAX_ENTRY
    assert len(parse_signed(leaf, Kind.STATEMENT).signers(Quorum(tuple(one.public for one in signers), 16, 1))) == 16


def test_the_fullest_bundle_is_within_its_limit_and_reads_back() -> None:
    signatures = tuple(
        Signature(Sha384(bytes([number]) * 48), b"e" * MAX_ED25519, b"m" * MAX_ML_DSA_65)
        for number in range(MAX_SIGNERS)
    )
    many = [statement(f"{number}", chr(33 + number)) for number in range(MAX_STATEMENTS)]
    bundle = new_bundle(many, issued_at=NOW)
    proof = Inclusion(MAX_SIZE - 1, b"n" * MAX_NOTE, (b"h" * 32,) * MAX_PROOF)
    full = [replace(one, signed=replace(one.signed, signatures=signatures), log=proof) for one in bundle.statements]
    revocations = [
        UnverifiedSigned(
            Kind.REVOCATION, Revocation("gateway", one.digest, NOW, Reason.VULNERABILITY).encode(), signatures
        )
        for one in many
    ]
    bundle = replace(
        bundle,
        list=replace(bundle.list, signatures=signatures),
        statements=tuple(full),
        revocations=tuple(sorted(revocations, key=UnverifiedSigned.encode)),
    )
    raw = bundle.encode()
    assert 8_500_000 < len(raw) <= MAX_BUNDLE
    assert UnverifiedBundle.decode(raw) == bundle
    with pytest.raises(EvidenceError, match="expected 2 signers, got 0"):
        verify(bundle)
