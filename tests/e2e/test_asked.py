"""What OpenAI clients ask for, through the whole stack: seeds, stop texts, probabilities, prompts; what is refused."""

from dataclasses import replace

import pytest

from anchorhold.attestation.channel.client import Delta
from anchorhold.client.conversation import Prompt
from anchorhold.client.errors import Refused
from anchorhold.client.sdk import Client
from anchorhold.client.settings import Settings

from .conftest import Running

pytestmark = pytest.mark.slow
HOT = Settings(max_tokens=24, temperature_milli=1_200)


def test_a_seed_gives_the_same_answer_again_and_another_another(stack: Running) -> None:
    with Client(stack.trust) as client:
        first, again, other = (client.ask("hello", replace(HOT, seed=seed)).text for seed in (1, 1, 2))
        drawn = {client.ask("hello", HOT).text for _ in range(3)}
    assert first == again != other
    assert len(drawn) == 3, "without a seed each is drawn afresh"


def test_a_stop_text_ends_the_answer_before_it(stack: Running) -> None:
    with Client(stack.trust) as client:
        whole = client.ask("hello", Settings(max_tokens=60))
        stop = whole.text[30:33]
        cut = client.ask("hello", Settings(max_tokens=1_000, stop=(stop, "\x01")))
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert cut.finish.reason.value == "stop"
    assert cut.finish.completion_tokens < 60


def test_tokens_join_to_the_text_and_the_likeliest_is_the_one_that_came(stack: Running) -> None:
    with Client(stack.trust) as client:
        events = [one for one in client.stream("hello", Settings(max_tokens=12, logprobs=3)) if isinstance(one, Delta)]
        plain = client.ask("hello", Settings(max_tokens=12))
    tokens = [token for one in events for token in one.logprobs]
    assert b"".join(token.token for token in tokens).decode() == "".join(one.text for one in events) == plain.text
    assert len(tokens) == 12
    for token in tokens:
        assert len(token.top) == 3
        assert (token.top[0].token, token.top[0].logprob_micro) == (token.token, token.logprob_micro)
        assert 0 >= token.top[0].logprob_micro >= token.top[1].logprob_micro >= token.top[2].logprob_micro


def test_a_prompt_is_continued_without_the_template_and_penalties_change_what_comes(stack: Running) -> None:
    with Client(stack.trust) as client:
        bare = client.ask(Prompt("hello"), Settings(max_tokens=30))
        chat = client.ask("hello", Settings(max_tokens=30))
        pressed = client.ask(Prompt("hello"), Settings(max_tokens=30, frequency_penalty_milli=2_000))
    assert bare.finish.prompt_tokens == len("hello")
    assert chat.finish.prompt_tokens > bare.finish.prompt_tokens
    assert len(set(pressed.text)) > len(set(bare.text))


def test_tools_for_a_model_whose_template_takes_none_are_refused_and_not_left_out(stack: Running) -> None:
    with Client(stack.trust) as client, pytest.raises(Refused) as refused:
        client.ask("hello", Settings(max_tokens=4, tools='[{"type":"function","function":{"name":"f"}}]'))
    assert refused.value.code == "unsupported"
    assert refused.value.receipt.receipt.records == 1
