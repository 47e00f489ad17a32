"""Token sampling, stopping and streaming during the generation of a local model."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import wait
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from threading import Event
from typing import Any

import torch
from transformers import LogitsProcessor, StoppingCriteria
from typing_extensions import override

from ragkit.models._concurrency import in_thread
from ragkit.models._prompts import cut_at_stop
from ragkit.records import Completion

_LEAST_TEMPERATURE = 1e-6  # a GPU multiplies by the inverse, which must be finite in float32


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A generated token and its log-probability.

    Attributes:
        text: Text of the token; the replacement character if the token is part of a character.
        logprob: Its log-probability in nats under the model, before temperature and constraints are applied.
        top: The most probable tokens at its position with their log-probabilities, in descending order.
    """

    text: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(slots=True, kw_only=True)
class Listener:
    """Callbacks that receive one answer of a batch as it is generated, in the thread of the model.

    Attributes:
        hear: Called with each piece of the answer and, if `top_logprobs` is set, its tokens. The pieces concatenate to
            the text of the completion. None to receive nothing.
        is_gone: Returns whether the answer is no longer needed; generation of the row then stops.
        top_logprobs: Number of most probable tokens to report with each generated token; None to report no
            log-probabilities.
    """

    hear: Callable[[str, Sequence[TokenLogprob]], None] | None = None
    is_gone: Callable[[], bool] = lambda: False
    top_logprobs: int | None = None


class Draw(LogitsProcessor):  # type: ignore[misc]
    """Samples a token by adding Gumbel noise to the logits (the Gumbel-max trick), with a separate generator per row.

    The answer of a row depends only on its own seed and not on other rows of the batch. The global generator is not
    used.
    """

    def __init__(self, temperature: float, seeds: Sequence[int], device: Any, *, top_p: float = 1.0) -> None:
        """Create a generator for each row from its seed; ``top_p`` is the share of the probability that is sampled."""
        self.top_p = top_p
        self.temperature = max(temperature, _LEAST_TEMPERATURE)
        self.generators = [torch.Generator(device).manual_seed(seed % 2**63) for seed in seeds]

    @override
    def __call__(self, input_ids: Any, scores: Any) -> Any:
        likely = (scores - scores.max(dim=-1, keepdim=True).values) / self.temperature
        if self.top_p < 1:
            likely = self._nucleus(likely)
        for row, generator in enumerate(self.generators):
            drawn = torch.empty_like(likely[row]).exponential_(generator=generator)
            likely[row] -= drawn.clamp_min(torch.finfo(drawn.dtype).tiny).log()
        return likely

    def _nucleus(self, likely: Any) -> Any:
        """Exclude the tokens that follow the most probable ones with together at least `top_p` (nucleus sampling)."""
        ordered, tokens = likely.float().softmax(-1).sort(dim=-1, descending=True, stable=True)
        before = ordered.cumsum(-1) - ordered
        excluded = before >= self.top_p
        excluded[:, 0] = False  # also if `top_p` is 0
        return likely.masked_fill(excluded.scatter(-1, tokens, excluded), -torch.inf)


class Penalties(LogitsProcessor):  # type: ignore[misc]
    """Subtracts penalties from the logits of the tokens that an answer contains so far, as OpenAI defines them."""

    def __init__(self, presence: float, frequency: float, start: int) -> None:
        """Penalise tokens from the index ``start`` on, at which the answers begin."""
        self.presence, self.frequency, self.start = presence, frequency, start

    @override
    def __call__(self, input_ids: Any, scores: Any) -> Any:
        written = input_ids[:, self.start :]
        counts = torch.zeros_like(scores).scatter_add_(1, written, torch.ones_like(written, dtype=scores.dtype))
        return scores - self.frequency * counts - self.presence * (counts > 0)


class Distribution(LogitsProcessor):  # type: ignore[misc]
    """Stores the model's distribution over the next token."""

    def __init__(self) -> None:
        """Start without a distribution."""
        self.logprobs: Any = None

    @override
    def __call__(self, input_ids: Any, scores: Any) -> Any:
        self.logprobs = scores.float().log_softmax(-1)
        return scores

    def of(self, row: int, token: int, top: int, tokenizer: Any) -> TokenLogprob:
        """Return the log-probabilities of a generated token and of the ``top`` most probable ones at its position."""
        line = self.logprobs[row]
        values, tokens = line.topk(min(top, len(line)))
        likely = [
            (tokenizer.decode([other]), value) for other, value in zip(tokens.tolist(), values.tolist(), strict=True)
        ]
        return TokenLogprob(tokenizer.decode([token]), float(line[token]), tuple(likely))


class Watch(StoppingCriteria):  # type: ignore[misc]
    """Ends rows at a stop sequence or when the listener is gone, and passes tokens to the listeners.

    Attributes:
        lengths: Number of tokens after which each row was ended by this class; 0 if it was not.
    """

    def __init__(
        self,
        tokenizer: Any,
        stop: tuple[str, ...],
        ends: set[int],
        start: int,
        listeners: Sequence[Listener],
        distribution: Distribution | None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Prepare for a batch in which answers begin at ``start``, and one of the tokens ``ends`` ends an answer.

        All rows end as soon as ``should_stop`` returns True.
        """
        self.should_stop = should_stop
        self.tokenizer, self.stop, self.start, self.distribution = tokenizer, stop, start, distribution
        self.lengths = [0] * len(listeners)
        # A token is at least one byte, so a stop sequence of n bytes that has just ended spans at most n tokens.
        self.reach = max((len(text.encode()) for text in stop), default=0) + 1
        self.told = [_Told(listener, tokenizer, stop, ends) for listener in listeners]

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
        stopped = self.should_stop()
        for row, told in enumerate(self.told):
            if not self.lengths[row] and (stopped or told.listener.is_gone()):
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
        """Pass the rest of each answer to its listener."""
        for told, text in zip(self.told, texts, strict=True):
            told.finish(text)


@dataclass(slots=True)
class _Told:
    """The state of a listener: the part of its answer that was reported.

    Text is reported once it is final: complete characters that cannot be the beginning of a stop sequence.
    """

    listener: Listener
    tokenizer: Any
    stop: tuple[str, ...]
    ends: set[int]
    hears: bool = False
    tokens: list[int] = field(default_factory=list)
    read: int = 0  # tokens whose text is in `text`
    context: int = 0  # index at which decoding starts, since the first decoded token may lose its space
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
        if now.endswith("\ufffd") or not now.startswith(before):  # an incomplete character
            return
        self.context, self.read = self.read, len(self.tokens)
        self.text += now[len(before) :]
        text, stopped = cut_at_stop(self.text, self.stop)
        self._send(text[: len(text) if stopped else len(text) - max(map(len, self.stop), default=1) + 1])

    def finish(self, text: str) -> None:
        """Report the rest of the complete text."""
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


def pieces_of(work: Callable[[Listener], Completion]) -> Generator[str, None, Completion]:
    """Run work in a thread, yield the pieces that its listener receives, and return the completion."""
    heard: SimpleQueue[str | None] = SimpleQueue()
    abandoned = Event()
    listener = Listener(hear=lambda piece, _: heard.put(piece), is_gone=abandoned.is_set)
    completion = in_thread(partial(work, listener))
    completion.add_done_callback(lambda _: heard.put(None))
    try:
        while (piece := heard.get()) is not None:
            yield piece
    finally:
        abandoned.set()
        wait([completion])
    return completion.result()
