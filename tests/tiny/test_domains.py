"""The task family of `tiny`: requests and calls follow the mapping of their domain, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest

from ragkit.tiny.domains import FILLERS, WORDS, Call, CallDomain

SMALL = CallDomain(
    commands={"dim": "fade"},
    cues={"in": ("zone", ["kitchen"]), "to": ("level", ["low"])},
    objects=["lamp"],
    most_cues=2,
)


def by_hand(domain: CallDomain, words: Sequence[str]):
    """The call of a request, read word by word."""
    content = [word for word in words if word not in {"please", "now", "just", "then", "kindly", "the", "a", "my"}]
    command, thing, *rest = content
    parts = [f"{domain.commands[command]} {thing}"]
    for cue, value in zip(rest[::2], rest[1::2], strict=True):
        key, values = domain.cues[cue]
        assert value in values
        parts.append(f"{cue} {key}: {value}")
    return ", ".join(parts), command, tuple(rest[::2])


def test_text_of_a_call():
    call = Call(
        request=("please", "dim", "the", "lamp", "in", "kitchen"),
        call=("fade", "lamp", ",", "in", "zone", ":", "kitchen"),
        command="dim",
        cues=("in",),
    )
    assert call.input == "please dim the lamp in kitchen"
    assert call.output == "fade lamp, in zone: kitchen"
    assert call.needs == {"dim", "in"}


@pytest.mark.parametrize("seed", range(5))
def test_calls_follow_the_mapping(seed: int):
    rng = Random(seed)
    domain = CallDomain.draw(rng, commands=5, cues=4, most_cues=3)
    for _ in range(200):
        call = domain.call(rng)
        output, command, cues = by_hand(domain, call.request)
        assert (call.output, call.command, call.cues) == (output, command, cues)
        assert call.input.split(" ") == list(call.request)
        assert call.needs == {command, *cues}
        assert len(set(cues)) == len(cues) <= 3


def test_everything_that_can_be_drawn_is_drawn():
    rng = Random(0)
    calls = [SMALL.call(rng) for _ in range(500)]
    assert {call.cues for call in calls} == {(), ("in",), ("to",), ("in", "to"), ("to", "in")}
    assert {word for call in calls for word in call.request} >= {
        "please",
        "now",
        "just",
        "then",
        "kindly",
        "the",
        "a",
        "my",
    }
    assert min(len(call.request) for call in calls) == 2


@pytest.mark.parametrize("seed", range(20))
def test_a_domain_uses_no_word_twice(seed: int):
    domain = CallDomain.draw(Random(seed))
    words = [*domain.commands, *domain.commands.values(), *domain.cues, *domain.objects]
    for key, values in domain.cues.values():
        words += [key, *values]
    assert len(words) == len(set(words)) == 2 * 8 + 8 * 6 + 8
    assert set(words) <= set(WORDS)
    assert not set(words) & set(FILLERS)
    assert (len(domain.commands), len(domain.cues), len(domain.objects)) == (8, 6, 8)
    assert all(len(values) == 6 for _, values in domain.cues.values())


def test_a_seed_decides_all():
    def sample(seed: int):
        rng = Random(seed)
        domain = CallDomain.draw(rng)
        return [domain.call(rng) for _ in range(20)]

    assert sample(1) == sample(1)
    assert sample(1) != sample(2)


def test_mappings_are_arbitrary():
    symbols = {CallDomain.draw(Random(seed), words=WORDS[:80]).commands.get(WORDS[0]) for seed in range(200)}
    assert len(symbols) > 10


def test_own_words_and_few_cues():
    words = [f"w{number}" for number in range(2 * 2 + 8 * 1 + 8)]
    domain = CallDomain.draw(Random(0), commands=2, cues=1, most_cues=5, words=words)
    assert {word for call in (domain.call(Random(seed)) for seed in range(50)) for word in call.needs} <= set(words)
    assert max(len(domain.call(Random(seed)).cues) for seed in range(50)) == 1
