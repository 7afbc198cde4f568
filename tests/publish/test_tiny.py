"""The tiny model is the same bytes each time, and is a model."""

from pathlib import Path

import pytest

from anchorhold.publish.folder import check_folder
from anchorhold.publish.smollm import FILES, is_fetched
from anchorhold.publish.tiny import make_tiny_model


def test_two_makings_are_equal_and_pass_the_checks(tiny: Path, tmp_path: Path) -> None:
    make_tiny_model(tmp_path)
    for path in tiny.iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()
    check_folder(tmp_path)


@pytest.mark.slow
def test_transformers_loads_it_and_it_answers_in_printable_text(tiny: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    chat = [{"role": "user", "content": "Grüße \N{GRINNING FACE}"}]
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=False)
    assert "Grüße \N{GRINNING FACE}" in tokenizer.decode(ids[0])
    answer = tokenizer.decode(model.generate(ids, max_new_tokens=24, do_sample=False)[0][ids.shape[1] :])
    assert len(answer) == 24
    assert answer.isprintable()
    assert len(set(answer)) > 4


def test_a_folder_that_is_not_exactly_the_pinned_files_is_not_the_real_model(tiny: Path, tmp_path: Path) -> None:
    assert not is_fetched(tmp_path / "none")
    assert not is_fetched(tiny)
    assert {path.name for path in tiny.iterdir()} == FILES.keys()
