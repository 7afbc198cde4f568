"""The `strict` profile through real processes: gRPC, gateway, window, enclave. Sizes and counts only, no times."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import pytest

from anchorhold.attestation.channel.client import Delta, Finished
from anchorhold.attestation.channel.padding import RESPONSE_STEP, STRICT_FRAME, Padding, response_step
from anchorhold.attestation.types import KeyId
from anchorhold.client.gateway import GrpcGateway
from anchorhold.client.sdk import AsyncClient, Settings

from .conftest import Running

pytestmark = pytest.mark.slow
STRICT = Settings(padding=Padding.STRICT, max_tokens=8)


class Counted(GrpcGateway):
    """What went by between client and gateway."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.up: list[list[int]] = []
        self.down: list[list[int]] = []

    async def infer(
        self, frames: Sequence[bytes], *, key_ids: Sequence[KeyId], alias: str, timeout_s: float
    ) -> AsyncGenerator[bytes, None]:
        down: list[int] = []
        self.up.append([len(frame) for frame in frames])
        self.down.append(down)
        async with aclosing(super().infer(frames, key_ids=key_ids, alias=alias, timeout_s=timeout_s)) as answer:
            async for frame in answer:
                down.append(len(frame))
                yield frame


def test_strict_answers_are_whole_steps_of_equal_frames_and_the_text_is_the_same(stack: Running) -> None:
    async def run() -> None:
        gateway = Counted(stack.trust.gateway)
        async with AsyncClient(stack.trust, gateway=gateway) as client:
            plain = await client.ask("hello", Settings(max_tokens=8))
            alone = await client.ask("hello", STRICT)
            together = await asyncio.gather(*(client.ask("hello" * n, STRICT) for n in (1, 20, 300)))
        assert {alone.text, together[0].text} == {plain.text}
        for answer in (alone, *together):
            receipt = answer.receipt.receipt
            assert receipt.records + 1 == response_step(receipt.records + 1)
            assert receipt.dummies >= RESPONSE_STEP - 2 - STRICT.max_tokens
        assert {tuple(sizes[1:]) for sizes in gateway.up[1:]} == {(STRICT_FRAME,) * 8}
        for down in gateway.down[1:]:
            assert set(down[1:]) == {STRICT_FRAME}
            assert len(down[1:]) == response_step(len(down[1:]))

    asyncio.run(run())


def test_text_is_there_before_the_padding_ends(stack: Running) -> None:
    async def run() -> None:
        gateway = Counted(stack.trust.gateway)
        async with AsyncClient(stack.trust, gateway=gateway) as client:
            events = [(len(gateway.down[-1]), event) async for event in client.stream("hello", STRICT)]
        last_text = max(at for at, event in events if isinstance(event, Delta))
        assert isinstance(events[-1][1], Finished)
        assert events[-1][0] - last_text > 4, "dummies came after the last text"

    asyncio.run(run())
