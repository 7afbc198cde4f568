"""What a caller's type checker knows of the SDK. Never run: mypy reads it (`test_typing.py`)."""

from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import assert_type

from anchorhold.attestation.channel.body import FinishReason, Message, Role
from anchorhold.attestation.channel.client import Delta, Finished, VerifiedReceipt
from anchorhold.attestation.channel.padding import Padding
from anchorhold.attestation.types import Milliseconds, Platform
from anchorhold.client.admission import TierRefused, Unmet
from anchorhold.client.conversation import Prompt
from anchorhold.client.errors import ClientError, Refused
from anchorhold.client.hops import Hop, HopNotPostQuantum
from anchorhold.client.sdk import Answer, AsyncClient, Client, Embeddings, Settings
from anchorhold.client.session import Session
from anchorhold.client.tiers import Tier
from anchorhold.client.trust import Trust, load_trust


def in_order(path: Path) -> None:
    trust = load_trust(path)
    assert_type(trust, Trust)
    assert_type(trust.tiers["secret"], Tier)
    with Client(trust) as client:
        assert_type(client, Client)
        assert_type(client.verify(), Session)
        answer = client.ask("hi", Settings(tier="secret", padding=Padding.STRICT, stop=("\n",), adapter="ad" * 48))
        assert_type(answer, Answer)
        assert_type(answer.text, str)
        assert_type(answer.receipt, VerifiedReceipt)
        assert_type(answer.finish.reason, FinishReason)
        assert_type(answer.session.channel.evidence.platform, Platform)
        assert_type(answer.simulated, bool)
        assert_type(client.embed(["a", "b"]), Embeddings)
        assert_type(client.hops(answer.session), tuple[Hop, ...])
        events = client.stream([Message(Role.SYSTEM, "be brief"), Message(Role.USER, "hi")])
        assert_type(events, Iterator[Delta | Finished])
        for event in events:
            if isinstance(event, Delta):
                assert_type(event.text, str)
            else:
                assert_type(event, Finished)


async def in_a_loop(trust: Trust) -> None:
    async with AsyncClient(trust, enclaves=2) as client:
        assert_type(client, AsyncClient)
        assert_type(
            await client.ask(Prompt("Once upon"), Settings(deadline=Milliseconds(5_000), adapter=bytes(48))), Answer
        )
        assert_type(await client.embed(("a",)), Embeddings)
        assert_type(client.stream("hi"), AsyncGenerator[Delta | Finished, None])
        assert_type(client.session, Session | None)


def what_is_raised(client: Client) -> None:
    try:
        client.ask("hi")
    except TierRefused as error:
        assert_type(error.unmet, tuple[Unmet, ...])
    except HopNotPostQuantum as error:
        assert_type(error.hop, str)
    except Refused as error:
        assert_type(error.receipt, VerifiedReceipt)
    except ClientError as error:
        assert_type(error.code, str)
        assert_type(error.hint, str | None)
