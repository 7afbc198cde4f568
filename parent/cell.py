"""The enclaves of one parent: which of them gets a request, and which one next where that one is gone (DESIGN 7).

A request goes to an enclave that takes one of the key ids the client named, to another of those while no answer has
begun, and to no other. Which enclave has which key is its own word and no secret; one that cannot open it says so.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from anchorhold.parent.health import Event, Health
from anchorhold.parent.link import Unreachable
from anchorhold.parent.relay import Cut, Hint, Relay
from anchorhold.parent.request import Request
from anchorhold.wire.frames import FrameError

RUNNING = "running"
BROKEN = (Unreachable, Cut, FrameError, OSError)
# What any enclave would say of this request: another one is not asked.
_ABOUT_THE_REQUEST = frozenset({"malformed", "truncated", "timeout"})


class NoSuchEnclave(Exception):
    """Nothing runs under the name that was asked for."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of `Enclaves`."""

    name: str
    alias: str
    state: str


@dataclass(slots=True)
class Member:
    """One enclave: the way to it, what is said of it, and how many exchanges it has open."""

    relay: Relay
    listed: Callable[[], Listed]
    open: int = 0


class Cell:
    """One to four members; the first is the default, for who names none."""

    def __init__(self, members: Sequence[Member], health: Health) -> None:
        self.members = tuple(members)
        self._health = health

    async def attest(self, nonce: bytes, *, with_configuration: bool, name: str = "") -> dict[str, bytes]:
        """The fields of ATTESTED, of the one enclave with that name, of any for an empty one.

        Raises NoSuchEnclave, or what `Relay.attest` raises.
        """
        asked = [one for one in self.members if not name or one.listed().name == name]
        if not asked:
            raise NoSuchEnclave(name)
        asked.sort(key=lambda one: (one.listed().state != RUNNING, one.open))
        for one in asked[:-1]:
            try:
                return await one.relay.attest(nonce, with_configuration=with_configuration)
            except (Hint, *BROKEN):
                self._health.event(Event.FAILED_OVER)
        return await asked[-1].relay.attest(nonce, with_configuration=with_configuration)

    async def infer(self, request: Request, targets: Sequence[bytes]) -> AsyncGenerator[bytes, None]:
        """One answer. Raises what `Relay.infer` raises, of the enclave that was asked last."""
        tried: list[Member] = []
        last: Exception | None = None
        while (member := await self._choose(targets, tried)) is not None:
            if last is not None:
                self._health.event(Event.FAILED_OVER)
            tried.append(member)
            member.open += 1
            try:
                async with aclosing(member.relay.infer(request.frames())) as answer:
                    async for body in answer:
                        request.forget()
                        yield body
                return
            except (Hint, *BROKEN) as error:
                if not request.repeatable or _is_about_the_request(error):
                    raise
                last = error
            finally:
                member.open -= 1
        raise last or self._nobody()

    async def _choose(self, targets: Sequence[bytes], tried: Sequence[Member]) -> Member | None:
        left = [one for one in self.members if one not in tried]
        if len(self.members) == 1 or not targets:
            # Nobody to choose from, or nobody chosen: the default, which knows its own keys.
            return None if tried else self.members[0]
        chosen = _among(left, targets)
        if chosen is None and left:
            # Keys change with the epoch: asked again, before it is said that nobody has one of these.
            await asyncio.gather(*(_refresh(one) for one in left))
            chosen = _among(left, targets)
        return chosen

    def _nobody(self) -> Exception:
        if any(one.relay.key_ids for one in self.members):
            return Hint("unknown-key")
        return Unreachable("no enclave answers")


def _among(members: Sequence[Member], targets: Sequence[bytes]) -> Member | None:
    """The one with the fewest open exchanges, then the one that the client named first."""
    able = [one for one in members if not one.relay.key_ids.isdisjoint(targets)]
    return min(able, key=lambda one: (one.open, _place(one, targets)), default=None)


def _place(member: Member, targets: Sequence[bytes]) -> int:
    return next(at for at, target in enumerate(targets) if target in member.relay.key_ids)


async def _refresh(member: Member) -> None:
    try:
        await member.relay.status()
    except BROKEN:
        return  # it has no keys, as far as is known here


def _is_about_the_request(error: Exception) -> bool:
    return isinstance(error, Hint) and error.code in _ABOUT_THE_REQUEST
