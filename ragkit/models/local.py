"""A language model on this machine, through transformers."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import StoppingCriteria, StoppingCriteriaList
from typing_extensions import override

from ragkit.errors import InvalidInputError, PromptTooLongError, UnsupportedError
from ragkit.models.base import ModelBase, Sampling, checked_prompts, cut_at_stop, prompt_text
from ragkit.progress import quiet_transformers
from ragkit.protocols import AnyPrompt, Capabilities
from ragkit.records import Chat, Completion, Usage
from ragkit.text import refuse_bare_string

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class LocalModel(ModelBase):
    """Continue prompts with a causal model of transformers.

    Prompts run in batches of similar length, so that little is spent on padding; the answers do not depend on the
    batch. Where the tokenizer has a chat template, a plain prompt is sent as the one message of a user.

    Attributes:
        module: The model of transformers (or PEFT).
        tokenizer: Its tokenizer.
        source: Spec or folder that the base weights come from.
        batch_size: Prompts a batch.
    """

    def __init__(
        self,
        module: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str,
        fingerprint: str,
        source: str,
        batch_size: int = 16,
    ) -> None:
        """Take a loaded model; `ragkit.load_model` loads one."""
        self.module: Any = module.eval()
        self.tokenizer: Any = tokenizer
        self.source = source
        self.batch_size = batch_size
        self._name, self._fingerprint = name, fingerprint
        self._lock = Lock()

    @property
    @override
    def name(self) -> str:
        return self._name

    @property
    @override
    def fingerprint(self) -> str:
        return self._fingerprint

    @property
    @override
    def capabilities(self) -> Capabilities:
        return Capabilities(window=window_of(self.module, self.tokenizer), score=True)

    @override
    def count_tokens(self, text: str) -> int:
        return len(self.encode_text(text))

    @override
    def most_tokens(self, prompt: AnyPrompt) -> int:
        return len(self.encode_prompt(prompt))

    def encode_text(self, text: str) -> list[int]:
        """Ids of a piece of text, nothing added; what looks like a special token is only text.

        Returns:
            Token ids.
        """
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return ids

    def encode_prompt(self, prompt: AnyPrompt) -> list[int]:
        """Ids of a whole prompt, with what the model wants before and around it.

        Returns:
            Token ids.

        Raises:
            InvalidInputError: If the prompt is empty, and the model has no token that opens a text.
            UnsupportedError: If the prompt is a conversation and the model has no chat template.
        """
        if isinstance(prompt, Chat) or self.tokenizer.chat_template:
            if not self.tokenizer.chat_template:
                raise UnsupportedError(f"{self.name} has no chat template; give it a string or a Prompt")
            turns = (
                [{"role": message.role, "content": message.content} for message in prompt.messages]
                if isinstance(prompt, Chat)
                else [{"role": "user", "content": prompt_text(prompt)}]
            )
            ids: list[int] = self.tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
            return ids
        added: list[int] = self.tokenizer("")["input_ids"]
        begins = [token for token in added[:1] if token == self.tokenizer.bos_token_id]
        whole = begins + self.encode_text(prompt_text(prompt))
        if not whole:
            raise InvalidInputError(
                f"the prompt is empty, and {self.name} has no token to begin with; give it some text"
            )
        return whole

    @override
    def _complete(self, prompts: Sequence[AnyPrompt], sampling: Sampling) -> list[Completion]:
        rows = [self.encode_prompt(prompt) for prompt in prompts]
        self._check_window(max(map(len, rows)), sampling.max_tokens)
        answers: list[Completion | None] = [None] * len(rows)
        with self._lock, torch.inference_mode(), quiet_transformers():
            # A sampled answer must not depend on its neighbours, so each is drawn alone with its own seed.
            size = 1 if sampling.temperature else self.batch_size
            for places in _batches_by_length(rows, size):
                for place, answer in zip(places, self._answer([rows[p] for p in places], sampling), strict=True):
                    answers[place] = answer
        return [answer for answer in answers if answer is not None]

    def _check_window(self, prompt_tokens: int, answer_tokens: int) -> None:
        window = self.capabilities.window
        if window and prompt_tokens + answer_tokens > window:
            advice = f"shorten the prompt, show fewer examples, or lower `max_tokens` (now {answer_tokens})"
            raise PromptTooLongError(prompt_tokens + answer_tokens, window, advice=advice)

    def _answer(self, rows: list[list[int]], sampling: Sampling) -> list[Completion]:
        started = time.perf_counter()
        ids, mask = self._padded(rows, left=True)
        width = ids.shape[1]
        stopper = _StopAtText(self.tokenizer, sampling.stop, width, len(rows))
        settings: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        if sampling.temperature:
            settings = {"do_sample": True, "temperature": sampling.temperature, "top_p": 1.0, "top_k": 0}
        # The seed is this call's own: the generator that the caller shares is put back.
        with torch.random.fork_rng([ids.device] if ids.is_cuda else [], enabled=bool(sampling.temperature)):
            if sampling.temperature:
                torch.manual_seed(sampling.seed)
            written = self.module.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=sampling.max_tokens,
                pad_token_id=self._pad,
                stopping_criteria=StoppingCriteriaList([stopper]),
                **settings,
            )[:, width:]
        seconds = (time.perf_counter() - started) / len(rows)
        return [
            self._read(tokens[: stopper.lengths[place] or None], len(rows[place]), sampling, seconds)
            for place, tokens in enumerate(written.tolist())
        ]

    def _read(self, tokens: list[int], prompt_tokens: int, sampling: Sampling, seconds: float) -> Completion:
        ends = _end_ids(self.module)
        last = next((place for place, token in enumerate(tokens) if token in ends), None)
        kept = tokens if last is None else tokens[: last + 1]
        text, stopped = cut_at_stop(self.tokenizer.decode(kept, skip_special_tokens=True), sampling.stop)
        return Completion(
            text=text,
            usage=Usage(prompt_tokens=prompt_tokens, completion_tokens=len(kept)),
            seconds=seconds,
            finish_reason="stop" if stopped or last is not None else "length",
        )

    @override
    def score(self, prompts: Sequence[AnyPrompt], choices: Sequence[str]) -> NDArray[np.float64]:
        """Log-likelihood of each choice after each prompt: the sum over the tokens of the choice.

        Args:
            prompts: n prompts.
            choices: c continuations, with the space they begin with.

        Returns:
            f64[n, c], in nats.
        """
        refuse_bare_string("choices", choices)
        heads = [self.encode_prompt(prompt) for prompt in checked_prompts(prompts)]
        tails = [self.encode_text(choice) for choice in choices]
        rows = [head + tail for head in heads for tail in tails]
        scores = np.zeros(len(rows))
        if not rows:
            return scores.reshape(len(prompts), len(choices))
        self._check_window(max(map(len, rows)), 0)
        with self._lock, torch.inference_mode():
            for places in _batches_by_length(rows, self.batch_size):
                tail_sizes = [len(tails[place % len(tails)]) for place in places]
                scores[places] = self._log_likelihood([rows[place] for place in places], tail_sizes)
        return scores.reshape(len(prompts), len(choices))

    def _log_likelihood(self, rows: list[list[int]], tail_sizes: list[int]) -> list[float]:
        ids, mask = self._padded(rows, left=False)
        logits = self.module(input_ids=ids, attention_mask=mask).logits[:, :-1].double()
        chosen = logits.log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
        ends = [len(row) - 1 for row in rows]
        return [
            float(chosen[place, end - tail : end].sum())
            for place, (end, tail) in enumerate(zip(ends, tail_sizes, strict=True))
        ]

    @property
    def _pad(self) -> int:
        pad = self.tokenizer.pad_token_id
        return int(pad if pad is not None else self.tokenizer.eos_token_id)

    def _padded(self, rows: list[list[int]], *, left: bool) -> tuple[Any, Any]:
        width = max(map(len, rows))
        ids = torch.full((len(rows), width), self._pad)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for place, row in enumerate(rows):
            where = slice(width - len(row), None) if left else slice(0, len(row))
            ids[place, where] = torch.tensor(row)
            mask[place, where] = 1
        return ids.to(self.module.device), mask.to(self.module.device)


class _StopAtText(StoppingCriteria):  # type: ignore[misc]
    """Ends each row where its text holds a stop sequence, and remembers after how many tokens."""

    def __init__(self, tokenizer: Any, stop: tuple[str, ...], start: int, rows: int) -> None:
        self.tokenizer, self.stop, self.start = tokenizer, stop, start
        self.lengths = [0] * rows
        # A token is at least a byte, so a sequence that has just ended lies within its own length in tokens.
        self.reach = max((len(text.encode()) for text in stop), default=0) + 1

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:  # noqa: ARG002 - the signature of transformers
        if self.stop:
            written = input_ids.shape[1] - self.start
            recent = self.tokenizer.batch_decode(input_ids[:, self.start :][:, -self.reach :])
            for row, text in enumerate(recent):
                if not self.lengths[row] and any(sequence in text for sequence in self.stop):
                    self.lengths[row] = written
        return torch.tensor([length > 0 for length in self.lengths], device=input_ids.device)


def window_of(module: Any, tokenizer: Any) -> int | None:
    """Tokens that a model takes: the smaller of what the model and the tokenizer say.

    Returns:
        A number of tokens, None where neither says.
    """
    said = [getattr(module.config, "max_position_embeddings", None), tokenizer.model_max_length]
    known = [size for size in said if size and size < 10**9]
    return min(known) if known else None


def _end_ids(module: Any) -> set[int]:
    ends = module.generation_config.eos_token_id
    return set(ends) if isinstance(ends, list) else {ends} - {None}


def _batches_by_length(rows: Sequence[Sequence[int]], size: int, *, most_tokens: int = 32_768) -> Iterator[list[int]]:
    """Places of ``rows`` in batches of similar length, the longest first, at most ``most_tokens`` padded tokens each.

    Yields:
        Lists of places.
    """
    order = sorted(range(len(rows)), key=lambda place: -len(rows[place]))
    while order:
        take = max(1, min(size, most_tokens // max(1, len(rows[order[0]]))))
        yield order[:take]
        order = order[take:]


def default_device() -> str:
    """Where models run: the first CUDA device, else the CPU.

    Returns:
        A name for torch.
    """
    return "cuda" if torch.cuda.is_available() else "cpu"
