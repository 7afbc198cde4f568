"""Any bytes give an adapter, its tensors, a descriptor or an EvidenceError, nothing else, in bounded time and memory.

Settings and weights stand one after the other. What is read has a rank and a finite scale, and a pair for each target;
a descriptor that is read writes the same bytes again.
"""

import json
import math
import tempfile
from pathlib import Path

from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.sealed.adapter import ADAPTER_CONFIGURATION, ADAPTER_WEIGHTS, read_adapter
from anchorhold.attestation.sealed.adapter import check_adapter_tensors as check
from anchorhold.attestation.sealed.descriptor import Descriptor, ModelFile, decode_descriptor, encode_descriptor
from anchorhold.attestation.sealed.tensors import header_size, read_header
from anchorhold.attestation.types import ModelDigest, Sha384
from anchorhold.publish.tiny import make_tiny_adapter

MAX_LEN = 16_384
BETWEEN = b"\0\0"  # no JSON holds it
TOKENS = (
    b'"lora_alpha"',
    b'"target_modules"',
    b'"q_proj"',
    b"1e400",
    b"NaN",
    b'"use_rslora":true',
    b'"r"',
    b"lora_A",
    b"lora_B",
    b"layers.0",
    b'"BF16"',
    b'"data_offsets"',
    b"base",
    b"\x58\x30",
)


def seeds() -> list[bytes]:
    """The tiny adapter's settings and header, and a descriptor of each kind."""
    with tempfile.TemporaryDirectory() as folder:
        make_tiny_adapter(Path(folder))
        settings = (Path(folder) / ADAPTER_CONFIGURATION).read_bytes()
        weights = (Path(folder) / ADAPTER_WEIGHTS).read_bytes()
    # Of two tensors alone, so that a change is likely to matter.
    pair = ("A", [2, 4]), ("B", [4, 2])
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"
    tensors = {name.format(half): {"dtype": "F32", "shape": shape} for half, shape in pair}
    for at, tensor in enumerate(tensors.values()):
        tensor["data_offsets"] = [32 * at, 32 * at + 32]
    header = json.dumps(tensors).encode()
    small = json.dumps({**json.loads(settings), "r": 2, "target_modules": ["q_proj"]}).encode()
    files = tuple(ModelFile(one, 100) for one in (ADAPTER_CONFIGURATION, ADAPTER_WEIGHTS))
    adapter = Descriptor("lora", "1", files, Sha384(b"t" * 48), base=ModelDigest(b"d" * 48))
    model = tuple(ModelFile(one, 100) for one in ("config.json", "model.safetensors", "tokenizer.json"))
    descriptors = [encode_descriptor(one) for one in (adapter, Descriptor("model", "1", model, Sha384(b"t" * 48)))]
    whole = len(header).to_bytes(8, "little") + header + bytes(64)
    return [settings + BETWEEN + weights[:MAX_LEN], small + BETWEEN + whole, *descriptors]


def one_input(data: bytes) -> None:
    """As both."""
    settings, _, weights = data.partition(BETWEEN)
    try:
        adapter = read_adapter(settings)
        assert adapter.rank > 0
        assert adapter.targets
        assert math.isfinite(adapter.scale)
        tensors = read_header(weights[: header_size(weights[:8], len(weights))], len(weights))
        check(adapter, tensors)
    except EvidenceError:
        pass
    else:
        assert len(tensors) >= 2 * len(adapter.targets)
    try:
        descriptor = decode_descriptor(data)
    except EvidenceError:
        return
    assert encode_descriptor(descriptor) == data
