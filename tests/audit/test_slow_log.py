"""A log that takes its time does not make an honest boot contradict itself: a renewal stands before what it covers."""

from pathlib import Path

import pytest

from anchorhold.attestation.transcript.bodies import Death
from anchorhold.attestation.types import Milliseconds
from anchorhold.audit.verify import audit
from anchorhold.sim.story import TTL_MS, Story


@pytest.mark.parametrize("dies", [False, True])
def test_an_answer_under_a_renewal_that_waits_for_the_log_stands_behind_it(
    story: Story, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, dies: bool
) -> None:
    story.serving()
    story.clock.forward(seconds=TTL_MS // 3000)
    with monkeypatch.context() as patch:  # as the recorder does: nobody waits for the log
        patch.setattr(story, "write", story.scribe.post)
        story.obtain("kms", 2)
        lease = story.obtain("owner", 2).lease
    story.clock.forward(seconds=TTL_MS * 5 // 6000)  # past the first lease, within the second
    story.answer(lease)
    if dies:
        now = Milliseconds(story.clock.ms())
        story.die(Death("deadline", "enclave", now, now, TTL_MS, None))
        story.leave()
    else:
        story.scribe.flush()
        story.close()
    report = audit(story.state, trust_files=[story.trust(tmp_path)]).report
    assert not [one for one in report.findings if one.status.name == "FAIL"]
