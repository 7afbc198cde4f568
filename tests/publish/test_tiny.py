"""The tiny model is the same bytes each time, and is a model."""

from pathlib import Path

import pytest

from anchorhold.publish.folder import check_folder
from anchorhold.publish.smollm import FILES, is_fetched
from anchorhold.publish.tiny import ALPHA, RANK, make_tiny_adapter, make_tiny_model


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


def test_an_adapter_is_the_same_bytes_for_a_seed_and_others_for_another(tmp_path: Path) -> None:
    for name, seed in (("a", "acme"), ("b", "acme"), ("c", "shop")):
        make_tiny_adapter(tmp_path / name, seed)
        check_folder(tmp_path / name, adapter=True)
    weights = [(tmp_path / name / "adapter_model.safetensors").read_bytes() for name in "abc"]
    assert weights[0] == weights[1] != weights[2]


@pytest.mark.slow
def test_an_adapter_changes_what_the_tiny_model_says(tiny: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny)
    ids = tokenizer("What is the capital of France?", return_tensors="pt").input_ids

    def answer(adapter: Path | None) -> str:
        model = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
        halves = {} if adapter is None else load_file(adapter / "adapter_model.safetensors")
        for name, a in halves.items():
            if ".lora_A." in name:
                b = halves[name.replace(".lora_A.", ".lora_B.")]
                module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
                model.get_submodule(module).weight.data += ALPHA / RANK * (b.float() @ a.float())
        return str(tokenizer.decode(model.generate(ids, max_new_tokens=24, do_sample=False)[0][ids.shape[1] :]))

    answers = [answer(None)]
    for seed in ("", "acme", "shop"):
        make_tiny_adapter(tmp_path / f"adapter-{seed}", seed)
        answers.append(answer(tmp_path / f"adapter-{seed}"))
    assert len(set(answers)) == 4
    assert len({text[:4] for text in answers}) == 4, "a test asks for few tokens"
