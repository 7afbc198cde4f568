"""An authority's journal beside a transcript: the heads in the log say whether it is whole."""

import base64
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anchorhold.attestation import canonical, labels
from anchorhold.attestation.cose import sign1
from anchorhold.attestation.journal import VERSION, JournalHead, entry_digest, sign_head
from anchorhold.attestation.transcript.report import CONTRADICTED, LIMITED, SIMULATED, Code, Finding
from anchorhold.attestation.types import Milliseconds
from anchorhold.audit.folder import CannotRead
from anchorhold.audit.verify import audit
from anchorhold.sim.story import Story

KEY = Ed25519PrivateKey.generate()
PUBLIC = KEY.public_key().public_bytes_raw().hex()


def entries(count: int, *, word: str = "x") -> list[bytes]:
    made: list[bytes] = []
    for seq in range(count):
        prev = entry_digest(made[-1]) if made else b""
        body: dict[str, canonical.Value] = {"word": word}
        fields: dict[str, canonical.Value] = {
            "v": VERSION,
            "seq": seq,
            "prev": prev,
            "t": seq,
            "type": "t",
            "body": body,
        }
        made.append(sign1(canonical.encode(fields), KEY, aad=labels.JOURNAL))
    return made


def head(signed: Sequence[bytes], seq: int) -> bytes:
    return sign_head(JournalHead("owner", seq, entry_digest(signed[seq]), Milliseconds(seq), None), KEY)


def written(path: Path, signed: Sequence[bytes]) -> Path:
    lines = [json.dumps({"seq": seq, "signed": base64.b64encode(raw).decode()}) for seq, raw in enumerate(signed)]
    path.write_text("\n".join(lines) + "\n")
    return path


def found(story: Story, tmp_path: Path, journals: Sequence[Path] = ()) -> tuple[int, list[Finding]]:
    result = audit(
        story.state, trust_files=[story.trust(tmp_path)], journals=[(journal, PUBLIC) for journal in journals]
    )
    about = [one for one in result.report.findings if one.subject.startswith("Journal")]
    return result.report.exit_code, about


@pytest.fixture
def signed(story: Story) -> list[bytes]:
    """Six entries; the log beside a whole boot holds heads at 1 and 4."""
    story.whole()
    made = entries(6)
    for seq in (1, 4):
        story.store.append(head(made, seq), ())
    return made


def test_heads_in_a_log_are_no_stray_records_and_say_that_the_journal_was_not_given(
    story: Story, tmp_path: Path, signed: list[bytes]
) -> None:
    code, about = found(story, tmp_path)
    assert code == SIMULATED
    assert [(one.code, one.detail[:7]) for one in about] == [(Code.NO_JOURNALS, "2 heads")]


def test_a_whole_journal_agrees_with_its_heads(story: Story, tmp_path: Path, signed: list[bytes]) -> None:
    code, about = found(story, tmp_path, [written(tmp_path / "journal", signed)])
    assert (code, [one.code for one in about]) == (SIMULATED, [Code.JOURNAL])


def test_a_journal_whose_end_was_cut_is_contradicted_by_the_log(
    story: Story, tmp_path: Path, signed: list[bytes]
) -> None:
    code, about = found(story, tmp_path, [written(tmp_path / "journal", signed[:4])])
    assert (code, [one.code for one in about]) == (CONTRADICTED, [Code.JOURNAL_DIFFERS])


def test_a_journal_that_was_written_anew_is_contradicted_by_the_log(
    story: Story, tmp_path: Path, signed: list[bytes]
) -> None:
    code, about = found(story, tmp_path, [written(tmp_path / "journal", entries(6, word="another"))])
    assert (code, [one.code for one in about]) == (CONTRADICTED, [Code.JOURNAL_DIFFERS])


def test_a_journal_with_a_gap_or_another_key_does_not_hold(story: Story, tmp_path: Path, signed: list[bytes]) -> None:
    code, about = found(story, tmp_path, [written(tmp_path / "journal", [*signed[:2], *signed[3:]])])
    assert code == CONTRADICTED
    assert Code.JOURNAL_DIFFERS in {one.code for one in about}
    other = Ed25519PrivateKey.generate().public_key().public_bytes_raw().hex()
    result = audit(
        story.state, trust_files=[story.trust(tmp_path)], journals=[(written(tmp_path / "whole", signed), other)]
    )
    assert result.report.exit_code == CONTRADICTED


def test_a_journal_of_which_the_log_has_no_head_is_a_limit(story: Story, tmp_path: Path) -> None:
    story.whole()
    code, about = found(story, tmp_path, [written(tmp_path / "journal", entries(3))])
    assert (code, [one.code for one in about]) == (LIMITED, [Code.JOURNAL_UNANCHORED])


def test_an_export_that_a_crash_cut_or_doubled_is_the_same_journal(
    story: Story, tmp_path: Path, signed: list[bytes]
) -> None:
    path = written(tmp_path / "journal", signed)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:3], lines[3][:20] + b"\n", *lines[2:], lines[5][:9]]))
    assert found(story, tmp_path, [path])[0] == SIMULATED


def test_a_key_that_is_none_cannot_be_read(story: Story, tmp_path: Path, signed: list[bytes]) -> None:
    path = written(tmp_path / "journal", signed)
    (tmp_path / "key").write_text("not hex\n")
    with pytest.raises(CannotRead, match="journal key"):
        audit(story.state, trust_files=[story.trust(tmp_path)], journals=[(path, str(tmp_path / "key"))])
    (tmp_path / "key").write_text(PUBLIC + "\n")
    result = audit(story.state, trust_files=[story.trust(tmp_path)], journals=[(path, str(tmp_path / "key"))])
    assert result.report.exit_code == SIMULATED
