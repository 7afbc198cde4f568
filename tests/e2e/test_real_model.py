"""The real model through the whole stack: a right answer, and exactly the tokens of in-process generation."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from anchorhold.attestation.configuration import EngineSettings
from anchorhold.client.sdk import Client
from anchorhold.client.sdk import Settings as Asking
from anchorhold.publish import smollm
from anchorhold.sim.deploy import Settings
from anchorhold.sim.stack import down

from .conftest import ROOT, Running, bring_up

pytestmark = pytest.mark.slow
QUESTIONS = ("What is the capital of France?", "Name three primary colors.")
MAX_TOKENS = 24


@pytest.fixture(scope="module")
def real() -> Iterator[Running]:
    path = Path(tempfile.mkdtemp(prefix="ah-"))
    try:
        yield bring_up(path, Settings(engine=EngineSettings("float32", 2_048, 4, 2)), model="smollm2")
    finally:
        down(path / "s")
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def answers(real: Running) -> dict[str, str]:
    with Client(real.trust) as client:
        return {question: client.ask(question, Asking(max_tokens=MAX_TOKENS)).text for question in QUESTIONS}


def test_the_capital_of_france_is_paris(answers: dict[str, str]) -> None:
    assert "Paris" in answers[QUESTIONS[0]]


def test_greedy_fp32_equals_in_process_generate_token_for_token(answers: dict[str, str]) -> None:
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    import transformers

    folder = ROOT / ".cache" / smollm.MODEL_ID
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for question, text in answers.items():
        chat = [{"role": "user", "content": question}]
        prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=False)
        with torch.no_grad():
            made = model.generate(prompt, max_new_tokens=MAX_TOKENS, do_sample=False)[0, prompt.shape[1] :]
        expected = tokenizer.decode(made, skip_special_tokens=True)
        assert tokenizer.encode(text) == tokenizer.encode(expected)
        assert text == expected
