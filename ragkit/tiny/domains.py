"""The task family of `tiny`: a request in words is turned into a call, by a mapping that every domain draws afresh.

A request names a command, an object and up to a few cues, each followed by a value; the call names what the domain
calls them::

    please dim the lamp in the kitchen to low  ->  fade lamp, in zone: kitchen, to level: low

Objects, cues and values are copied. The symbols of commands (``dim`` -> ``fade``) and the keys of cues
(``in`` -> ``zone``) are arbitrary, so no model can know
them: an example shows the ones it holds, and fine-tuning can learn them all.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from ragkit.records import Example
from ragkit.tasks import Task
from ragkit.text import folded
from ragkit.tiny.tokenizer import lines_of_words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["HOME", "task_of"]

_WORDS = lines_of_words()
FILLERS = tuple(_WORDS[0])
WORDS = tuple(word for line in _WORDS[1:] for word in line if word.islower())


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request with its call, word by word.

    Attributes:
        request: The words of the request.
        call: The pieces of the call; joined without spaces where a piece is a comma or a colon.
        command: The command word, whose symbol only an example can tell.
        cues: The cue words in the order of the request, whose keys only an example can tell.
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
        """The call as text, ``fade lamp, in zone: kitchen``."""
        return "".join(piece if piece in ",:" else f" {piece}" for piece in self.call).lstrip()

    @property
    def needs(self) -> frozenset[str]:
        """The words that no model can map without having seen an example of them."""
        return frozenset((self.command, *self.cues))


@dataclass(frozen=True, slots=True, kw_only=True)
class CallDomain:
    """One mapping from requests to calls.

    Attributes:
        commands: Command word to the symbol that opens the call.
        cues: Cue word to its key and the values it may take.
        objects: What a command is applied to.
        most_cues: The largest number of cues in one request.
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
        """Draw a domain.

        Args:
            rng: The source of chance.
            commands: Number of commands.
            cues: Number of cues.
            most_cues: The largest number of cues in one request.
            words: The words to draw from; none is used in two places.

        Returns:
            A domain of its own words and its own mapping.
        """
        drawn = iter(rng.sample(words, 2 * commands + 8 * cues + 8))
        take = [next(drawn) for _ in range(commands)]
        symbols = [next(drawn) for _ in range(commands)]
        keyed = {next(drawn): (next(drawn), [next(drawn) for _ in range(6)]) for _ in range(cues)}
        return cls(commands=dict(zip(take, symbols, strict=True)), cues=keyed, objects=list(drawn), most_cues=most_cues)

    def call(self, rng: Random) -> Call:
        """Draw one request and its call.

        Returns:
            A request of the domain, its fillers (``please``, ``the`` …) drawn with it.
        """
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
    """Draw a task from a domain; no request stands in both pool and test rows.

    Args:
        domain: The domain.
        rng: The source of chance.
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
