"""What happens while a local model writes: drawing tokens, ending rows, telling listeners what has come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import LogitsProcessor, StoppingCriteria
from typing_extensions import override

from ragkit.models.prompts import cut_at_stop

_LEAST_TEMPERATURE = 1e-6  # a GPU multiplies with the inverse, which must be a number in float32


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token that was written.

    Attributes:
        text: Its text; the replacement character where it is a part of one.
        logprob: Its log-probability in nats, by the model alone: before temperature, schema and choices.
        top: The likeliest tokens in its place with their log-probabilities, the likeliest first.
    """

    text: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(slots=True, kw_only=True)
class Listener:
    """Hears one answer of a batch while it is written, on the thread that computes.

    Attributes:
        hear: Called with each piece of the answer and, where they are asked for, its tokens; the pieces join to the
            text of the completion. None to hear nothing.
        is_gone: Whether nobody waits any more; the row ends then.
        top_logprobs: How many likely tokens are told beside each that was written; None for no log-probabilities.
    """

    hear: Callable[[str, Sequence[TokenLogprob]], None] | None = None
    is_gone: Callable[[], bool] = lambda: False
    top_logprobs: int | None = None


class Draw(LogitsProcessor):  # type: ignore[misc]
    """Makes the likeliest token a drawn one, each row with a generator of its own (the Gumbel-max trick).

    A row's answer depends on its own seed alone, so neighbours in a batch do not change it, and the generator that
    others share is left alone.
    """

    def __init__(self, temperature: float, seeds: Sequence[int], device: Any) -> None:
        """Take one seed for each row."""
        self.temperature = max(temperature, _LEAST_TEMPERATURE)
        self.generators = [torch.Generator(device).manual_seed(seed % 2**63) for seed in seeds]

    @override
    def __call__(self, input_ids: Any, scores: Any) -> Any:
        likely = (scores - scores.max(dim=-1, keepdim=True).values) / self.temperature
        for row, generator in enumerate(self.generators):
            drawn = torch.empty_like(likely[row]).exponential_(generator=generator)
            likely[row] -= drawn.clamp_min(torch.finfo(drawn.dtype).tiny).log()
        return likely


class Distribution(LogitsProcessor):  # type: ignore[misc]
    """Remembers the model's distribution over the next token."""

    def __init__(self) -> None:
        """Begin with none."""
        self.logprobs: Any = None

    @override
    def __call__(self, input_ids: Any, scores: Any) -> Any:
        self.logprobs = scores.float().log_softmax(-1)
        return scores

    def of(self, row: int, token: int, top: int, tokenizer: Any) -> TokenLogprob:
        """The log-probability of what was written.

        Args:
            row: Row of the batch.
            token: The token.
            top: How many likely ones are told beside it.
            tokenizer: Gives their texts.

        Returns:
            The token with its log-probability.
        """
        line = self.logprobs[row]
        values, tokens = line.topk(min(top, len(line)))
        likely = [
            (tokenizer.decode([other]), value) for other, value in zip(tokens.tolist(), values.tolist(), strict=True)
        ]
        return TokenLogprob(tokenizer.decode([token]), float(line[token]), tuple(likely))


class Watch(StoppingCriteria):  # type: ignore[misc]
    """Sees each token as it is chosen: ends a row at a stop sequence or when nobody waits, and tells its listener.

    Attributes:
        lengths: For each row after how many tokens it was ended here; 0 where it was not.
    """

    def __init__(
        self,
        tokenizer: Any,
        stop: tuple[str, ...],
        ends: set[int],
        start: int,
        rows: int,
        listeners: Sequence[Listener] | None,
        distribution: Distribution | None,
    ) -> None:
        """Watch a batch.

        Args:
            tokenizer: The model's.
            stop: Sequences at which a row ends.
            ends: Tokens that end a text.
            start: Where the answers begin.
            rows: Rows of the batch.
            listeners: One for each row, or None.
            distribution: Where log-probabilities are, if any are asked for.
        """
        self.tokenizer, self.stop, self.start, self.distribution = tokenizer, stop, start, distribution
        self.lengths = [0] * rows
        # A token is at least a byte, so a sequence that has just ended lies within its own length in tokens.
        self.reach = max((len(text.encode()) for text in stop), default=0) + 1
        self.listeners = list(listeners or ())
        self.told = [_Told(listener, tokenizer, stop, ends) for listener in self.listeners]

    @override
    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        written = input_ids.shape[1] - self.start
        if self.stop:
            recent = self.tokenizer.batch_decode(input_ids[:, self.start :][:, -self.reach :])
            for row, text in enumerate(recent):
                if not self.lengths[row] and any(sequence in text for sequence in self.stop):
                    self.lengths[row] = written
        if any(told.hears for told in self.told):
            self._tell(input_ids[:, -1].tolist(), written)
        for row, listener in enumerate(self.listeners):
            if not self.lengths[row] and listener.is_gone():
                self.lengths[row] = written
        return torch.tensor([length > 0 for length in self.lengths], device=input_ids.device)

    def _tell(self, tokens: list[int], written: int) -> None:
        for row, (told, token) in enumerate(zip(self.told, tokens, strict=True)):
            if not told.hears or self.lengths[row] not in {0, written}:
                continue
            top, logprob = told.listener.top_logprobs, None
            if top is not None and self.distribution is not None:
                logprob = self.distribution.of(row, token, top, self.tokenizer)
            told.add(token, logprob)

    def finish(self, texts: Sequence[str]) -> None:
        """Tell each listener what is left of its answer."""
        for told, text in zip(self.told, texts, strict=False):
            told.finish(text)


@dataclass(slots=True)
class _Told:
    """How much of one answer its listener was told.

    Text is told when it is certain: whole characters, and nothing that may be the beginning of a stop sequence.
    """

    listener: Listener
    tokenizer: Any
    stop: tuple[str, ...]
    ends: set[int]
    hears: bool = False
    tokens: list[int] = field(default_factory=list)
    read: int = 0  # tokens whose text is in `text`
    context: int = 0  # the token from which on they are decoded, since a first token may lose its space
    text: str = ""
    sent: int = 0
    waiting: list[tuple[int, TokenLogprob]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.hears = self.listener.hear is not None

    def add(self, token: int, logprob: TokenLogprob | None) -> None:
        if token in self.ends:
            self.hears = False
            return
        if logprob is not None:
            self.waiting.append((len(self.text), logprob))
        self.tokens.append(token)
        before = self._decoded(self.context, self.read)
        now = self._decoded(self.context, len(self.tokens))
        if now.endswith("\ufffd") or not now.startswith(before):  # a part of a character
            return
        self.context, self.read = self.read, len(self.tokens)
        self.text += now[len(before) :]
        text, stopped = cut_at_stop(self.text, self.stop)
        self._send(text[: len(text) if stopped else len(text) - max(map(len, self.stop), default=1) + 1])

    def finish(self, text: str) -> None:
        """Tell the rest of the whole text."""
        if self.listener.hear is not None:
            self._send(text)

    def _decoded(self, start: int, end: int) -> str:
        return str(self.tokenizer.decode(self.tokens[start:end], skip_special_tokens=True))

    def _send(self, certain: str) -> None:
        if len(certain) <= self.sent:
            return
        ready = [logprob for start, logprob in self.waiting if start < len(certain)]
        self.waiting = [(start, logprob) for start, logprob in self.waiting if start >= len(certain)]
        if self.listener.hear is not None:
            self.listener.hear(certain[self.sent :], ready)
        self.sent = len(certain)
