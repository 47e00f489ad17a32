"""The task family of `tiny`: translate a request in words into a call, by a mapping that is sampled for each domain.

A request consists of a command, an object and a few cues, each followed by a value. The call uses the terms of the
domain::

    please dim the lamp in the kitchen to low  ->  fade lamp, in zone: kitchen, to level: low

Objects, cues and values are copied. The symbols of commands (``dim`` -> ``fade``) and the keys of cues
(``in`` -> ``zone``) are arbitrary, so no model can know them in advance: an in-context example reveals those that it
contains, and fine-tuning can learn all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from ragkit._text import folded
from ragkit.records import Example
from ragkit.tasks import Task
from ragkit.tiny._tokenizer import lines_of_words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["HOME", "task_of"]

_WORDS = lines_of_words()
FILLERS = tuple(_WORDS[0])
WORDS = tuple(word for line in _WORDS[1:] for word in line if word.islower())


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request with its call, as lists of words.

    Attributes:
        request: The words of the request.
        call: The pieces of the call; commas and colons are joined to the previous piece without a space.
        command: The command word, whose symbol only an example can reveal.
        cues: The cue words in the order of the request, whose keys only an example can reveal.
    """

    request: tuple[str, ...]
    call: tuple[str, ...]
    command: str
    cues: tuple[str, ...]

    @property
    def input(self) -> str:
        """The request as text."""
        return " ".join(self.request)

    @property
    def output(self) -> str:
        """The call as text, such as ``fade lamp, in zone: kitchen``."""
        return "".join(piece if piece in ",:" else f" {piece}" for piece in self.call).lstrip()

    @property
    def needs(self) -> frozenset[str]:
        """The words that a model can map only after it has seen an example with them."""
        return frozenset((self.command, *self.cues))


@dataclass(frozen=True, slots=True, kw_only=True)
class CallDomain:
    """One mapping from requests to calls.

    Attributes:
        commands: The symbol at the beginning of the call for each command word.
        cues: The key and the possible values of each cue word.
        objects: The objects to which commands are applied.
        most_cues: Maximum number of cues in a request.
    """

    commands: Mapping[str, str]
    cues: Mapping[str, tuple[str, Sequence[str]]]
    objects: Sequence[str]
    most_cues: int = 2

    @classmethod
    def draw(
        cls,
        rng: Random,
        *,
        commands: int = 8,
        cues: int = 6,
        most_cues: int = 2,
        words: Sequence[str] = WORDS,
    ) -> CallDomain:
        """Sample a domain of random words, each of which is used at most once, and a random mapping."""
        drawn = iter(rng.sample(words, 2 * commands + 8 * cues + 8))
        take = [next(drawn) for _ in range(commands)]
        symbols = [next(drawn) for _ in range(commands)]
        keyed = {next(drawn): (next(drawn), [next(drawn) for _ in range(6)]) for _ in range(cues)}
        return cls(commands=dict(zip(take, symbols, strict=True)), cues=keyed, objects=list(drawn), most_cues=most_cues)

    def call(self, rng: Random) -> Call:
        """Sample a request of the domain, with random fillers (``please``, ``the`` …), and its call."""
        command, thing = rng.choice(list(self.commands)), rng.choice(self.objects)
        used = rng.sample(list(self.cues), rng.randint(0, min(self.most_cues, len(self.cues))))
        request = [*_filler(rng, 0.3, "please", "now", "just", "then", "kindly"), command, *_article(rng), thing]
        pieces = [self.commands[command], thing]
        for cue in used:
            key, values = self.cues[cue]
            value = rng.choice(values)
            request += [cue, *_article(rng), value]
            pieces += [",", cue, key, ":", value]
        request += _filler(rng, 0.2, "now", "please")
        return Call(request=tuple(request), call=tuple(pieces), command=command, cues=tuple(used))


def _article(rng: Random) -> list[str]:
    return _filler(rng, 0.3, "the", "a", "my")


def _filler(rng: Random, share: float, *choices: str) -> list[str]:
    return [rng.choice(choices)] if rng.random() < share else []


HOME = CallDomain(
    commands={
        "dim": "fade", "light": "glow", "warm": "blaze", "cool": "chill",
        "open": "vent", "close": "dock", "lock": "bolt", "mute": "hush",
    },
    cues={
        "in": ("zone", ("kitchen", "bedroom", "bathroom", "garage", "hall", "attic")),
        "to": ("level", ("low", "medium", "high", "full", "half", "minimum")),
        "for": ("owner", ("anna", "boris", "clara", "david", "elena", "felix")),
        "at": ("time", ("morning", "noon", "evening", "night", "midnight", "weekend")),
        "until": ("date", ("monday", "tuesday", "thursday", "friday", "saturday", "sunday")),
    },
    objects=("lamp", "fan", "heater", "oven", "door", "window", "radio", "speaker", "screen"),
)  # fmt: skip
"""Device commands of a home, in the names that its (made-up) maker gave them."""

INSTRUCTION = "Turn the request into a device call."


def task_of(domain: CallDomain, rng: Random, *, pool: int = 200, test: int = 20, name: str = "calls") -> Task:
    """Sample a task from a domain; no request is in both the pool and the test rows.

    Args:
        domain: The domain.
        rng: The random number generator.
        pool: Number of examples.
        test: Number of test rows.
        name: Name of the task.

    Returns:
        A task scored by exact match.
    """
    drawn: dict[str, Call] = {}
    while len(drawn) < pool + test:
        call = domain.call(rng)
        drawn.setdefault(folded(call.input), call)
    rows = [Example(call.input, call.output, metadata={"needs": sorted(call.needs)}) for call in drawn.values()]
    return Task(INSTRUCTION, rows[:pool], rows[pool:], name=name)
