"""Turns the packaged GGUF into bf16 safetensors, in a process of its own: `python -m anchorhold.publish.convert`.

Arguments: source folder, file name, new folder. Needs the extra `convert`. Equal bytes on every run with the pinned
transformers version; the caller checks the hashes.
"""

import sys
from pathlib import Path


def convert(source: Path, name: str, out: Path) -> None:
    """Read `source`/`name` and write the model folder `out`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(source, gguf_file=name, dtype=torch.bfloat16)
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=name)
    # transformers 5.23 takes the model for quantised still and would refuse to save it; it is dequantised by now.
    model.hf_quantizer = None
    del model.config.quantization_config
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
