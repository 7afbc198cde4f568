"""Adapters that PEFT makes, saves and answers with: other people's code, for tests of ours."""

from pathlib import Path
from typing import Any

import pytest

from anchorhold.enclave.model.engine import GenerationRequest

from .engine_harness import read, torch, transformers

peft = pytest.importorskip("peft")

FILES = ("adapter_config.json", "adapter_model.safetensors")
ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def make_adapter(base: Path, folder: Path, seed: int, targets: tuple[str, ...] = ALL, **more: Any) -> Path:
    """A random one, strong enough that the answers are others."""
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    torch.manual_seed(seed)
    config = peft.LoraConfig(task_type="CAUSAL_LM", target_modules=list(targets), **({"r": 4, "lora_alpha": 8} | more))
    wrapped = peft.get_peft_model(model, config)
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if ".lora_" in name:
                parameter.normal_(std=0.3)
    wrapped.save_pretrained(folder)
    return folder


def files_of(folder: Path) -> dict[str, bytearray]:
    return {name: one for name, one in read(folder).items() if name in FILES}


def generate_with(base: Path, adapter: Path | None, requests: list[GenerationRequest]) -> list[list[int]]:
    """The oracle: greedy, float32, one request at a time, the adapter as PEFT reads it from its folder."""
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if adapter is not None:
        model = peft.PeftModel.from_pretrained(model, adapter)
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    answers = []
    for request in requests:
        turns = [{"role": turn.role, "content": turn.content} for turn in request.messages]
        prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        out = model.generate(**prompt, max_new_tokens=request.max_tokens, do_sample=False)
        answers.append(out[0, prompt["input_ids"].shape[1] :].tolist())
    return answers


def start_of(files: dict[str, bytearray]) -> int:
    """Where the tensors begin."""
    return 8 + int.from_bytes(files["adapter_model.safetensors"][:8], "little")
