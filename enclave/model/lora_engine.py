"""LoRA adapters inside one batch: the rows of a request get exactly its adapter's addition, other rows nothing.

- A step packs the query tokens of its requests along one dimension; which rows are whose is noted when the step is
  prepared, by the thread that then computes it. What a whole graph replayed would pass these hooks by: there is none.
- A projection is hooked when the first adapter for it comes. Without one, and in a step without one, nothing changes.
- What an adapter makes is bounded and finite. Attention multiplies the keys and values of all requests before it masks
  those of others, so one that is infinite would be everybody's.
- No cache crosses adapters, though keys and values differ by adapter: block sharing is off (`transformers_engine.py`).
An adapter is published by one assignment, and one that is dropped is marked before anything of it is zeroed. Freed, not
wiped: what its products left in activations and cache.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from anchorhold.attestation.errors import EvidenceError
from anchorhold.attestation.sealed.adapter import TENSOR_PREFIX, Adapter, check_adapter_tensors, read_adapter
from anchorhold.attestation.sealed.names import ADAPTER_CONFIGURATION, ADAPTER_WEIGHTS
from anchorhold.attestation.sealed.tensors import Tensor
from anchorhold.enclave.model.engine import Buffer, EngineRefused, ModelRefused
from anchorhold.enclave.model.load import open_header, open_tensor, require_writable, settle, zero, zero_tensors

# After load.py, which sets the library's offline switches.
import torch  # isort: skip

Rows: TypeAlias = Any
"""Places along the packed dimension: a slice, or a tensor of them."""
LIMIT = float(1 << 40)  # of any number that an adapter's addition leaves; real models keep below 2^17
_A, _B = ".lora_A.weight", ".lora_B.weight"


@dataclass(slots=True, eq=False)
class LoadedAdapter:
    """A and B of each projection by the projection's name; `gone` once it is dropped."""

    scale: float
    pairs: dict[str, tuple[torch.Tensor, torch.Tensor]]
    buffers: list[Buffer]
    gone: bool = False

    def wipe(self) -> None:
        """Zero its weights and files; there when this returns, whoever else is at it."""
        self.gone = True
        zero_tensors(tensor for pair in self.pairs.values() for tensor in pair)
        for buffer in self.buffers:
            zero(buffer)
        self.pairs, self.buffers = {}, []


class Adapters:
    """The adapters of one model, and who wears which."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._loaded: dict[bytes, LoadedAdapter] = {}
        self._worn: dict[str, LoadedAdapter] = {}  # by the id the library knows a request by
        self._rows: tuple[tuple[Rows, LoadedAdapter], ...] = ()  # of the step being made
        self._hooked: set[str] = set()
        self._loading, self._dropping = threading.Lock(), threading.Lock()
        self._closed = False

    def load(self, name: bytes, files: Mapping[str, Buffer]) -> None:
        """Keep an adapter under `name`. Raises ModelRefused, and then nothing of it is left in the buffers."""
        require_writable(files)
        opened: dict[str, torch.Tensor] = {}
        with self._loading:
            try:
                self._require_free(name)
                self._loaded[name] = self._open(files, opened)
            except BaseException as error:
                zero_tensors(opened.values())
                for buffer in files.values():
                    zero(buffer)
                if isinstance(error, RuntimeError | MemoryError):  # memory, of the device too, or the device itself
                    raise ModelRefused(f"the device did not take the adapter: {type(error).__name__}") from None
                if isinstance(error, EvidenceError):
                    raise ModelRefused(str(error)) from error
                raise

    def drop(self, name: bytes, end: Callable[[frozenset[str]], None]) -> None:
        """Zero an adapter, after `end` was told who wears it. Unknown names are ignored."""
        with self._dropping:
            adapter = self._loaded.get(name)
            if adapter is None:
                return
            adapter.gone = True
            end(frozenset(inner for inner, worn in list(self._worn.items()) if worn is adapter))
            adapter.wipe()
            del self._loaded[name]

    def wipe(self) -> None:
        """Zero all, for good; one that is being loaded is awaited and goes with them."""
        self._closed = True
        with self._loading:
            for adapter in list(self._loaded.values()):
                adapter.wipe()

    def wear(self, inner: str, name: bytes | None) -> LoadedAdapter | None:
        """From now on the rows of request `inner` are that adapter's. Raises EngineRefused."""
        if name is None:
            return None
        adapter = self._loaded.get(name)
        if adapter is not None:
            self._worn[inner] = adapter
        # Asked after it is worn: `drop` marks before it looks who wears it.
        if adapter is None or adapter.gone:
            raise EngineRefused("adapter", "the adapter is not loaded")
        return adapter

    def forget(self, inner: str) -> None:
        """That request is over."""
        self._worn.pop(inner, None)

    def follow(self, processors: Any) -> None:
        """Note the rows of each step of a new manager, whose list of logits processors this is.

        It is asked for its arguments in the preparation of each step, with all requests in the order of their rows, and
        exists before the thread does. Padding, were there any, would come after the last request.
        """
        prepare = processors.prepare_tensor_args

        def prepare_and_note(requests_in_batch: Sequence[Any], arg_storage: torch.Tensor) -> torch.Tensor:
            self._rows = self._by_adapter(requests_in_batch) if self._worn else ()
            made: torch.Tensor = prepare(requests_in_batch, arg_storage)
            return made

        processors.prepare_tensor_args = prepare_and_note

    def _require_free(self, name: bytes) -> None:
        if self._closed:
            raise ModelRefused("the engine has ended")
        if name in self._loaded:
            raise ModelRefused("the adapter is loaded already")

    def _by_adapter(self, requests: Sequence[Any]) -> tuple[tuple[Rows, LoadedAdapter], ...]:
        """The rows of each adapter, all of its requests together: one product an adapter, however they are mixed."""
        rows: dict[LoadedAdapter, list[int]] = {}
        begin = 0
        for request in requests:
            end = begin + int(request.query_length)
            adapter = self._worn.get(request.state.request_id)
            if adapter is not None and not adapter.gone:
                rows.setdefault(adapter, []).extend(range(begin, end))
            begin = end
        return tuple((self._place(places), adapter) for adapter, places in rows.items())

    def _place(self, places: list[int]) -> Rows:
        if places[-1] - places[0] == len(places) - 1:
            return slice(places[0], places[-1] + 1)
        return torch.tensor(places, device=self._model.device)

    def _open(self, files: Mapping[str, Buffer], opened: dict[str, torch.Tensor]) -> LoadedAdapter:
        if set(files) != {ADAPTER_CONFIGURATION, ADAPTER_WEIGHTS}:
            raise ModelRefused(f"expected {ADAPTER_CONFIGURATION} and {ADAPTER_WEIGHTS} alone, got {sorted(files)}")
        # 1. What the adapter says of itself, and its header, before any tensor.
        adapter = read_adapter(memoryview(files[ADAPTER_CONFIGURATION]))
        places = open_header(memoryview(files[ADAPTER_WEIGHTS]).cast("B"))
        check_adapter_tensors(adapter, places)
        # 2. This model has those projections, of that width.
        modules = self._modules(adapter, places)
        # 3. Tensors.
        for place in places:
            opened[place.name] = open_tensor(files[ADAPTER_WEIGHTS], place, self._model.dtype, self._model.device)
        pairs = {name: (opened[TENSOR_PREFIX + name + _A], opened[TENSOR_PREFIX + name + _B]) for name in modules}
        # The batch computes on a stream of its own, which waits for no other.
        settle()
        for name in modules.keys() - self._hooked:
            # While a step may run: a module reads its hooks at once, in one piece of C.
            modules[name].register_forward_hook(self._hook(name))
            self._hooked.add(name)
        return LoadedAdapter(adapter.scale, pairs, list(files.values()))

    def _modules(self, adapter: Adapter, places: Sequence[Tensor]) -> dict[str, torch.nn.Linear]:
        known = {name: one for name, one in self._model.named_modules() if isinstance(one, torch.nn.Linear)}
        modules = {}
        for place in places:
            is_a = place.name.endswith(_A)
            name = place.name.removeprefix(TENSOR_PREFIX).removesuffix(_A if is_a else _B)
            module = known.get(name)
            if module is None:
                raise ModelRefused(f"tensor {place.name!r}: the model has no projection {name!r}")
            wanted = (adapter.rank, module.in_features) if is_a else (module.out_features, adapter.rank)
            if place.shape != wanted:
                raise ModelRefused(f"tensor {place.name!r}: expected {wanted}, got {place.shape}")
            modules[name] = module
        return modules

    def _hook(self, name: str) -> Callable[[Any, tuple[torch.Tensor, ...], torch.Tensor], None]:
        def add(_: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            for rows, adapter in self._rows:
                pair = adapter.pairs.get(name)
                if pair is None:
                    continue
                narrow = torch.nn.functional.linear(inputs[0][:, rows], pair[0])
                mine = output[:, rows]  # the rows themselves where they are a slice, else a copy
                mine.add_(torch.nn.functional.linear(narrow, pair[1]) * adapter.scale)
                mine.nan_to_num_(nan=0.0, posinf=LIMIT, neginf=-LIMIT).clamp_(-LIMIT, LIMIT)
                if not isinstance(rows, slice):
                    output[:, rows] = mine

        return add
