"""Train `tiny` from scratch: ``python -m ragkit.tiny.train --out DIR`` (about an hour on two CPU cores).

A small decoder does not learn in-context learning from the final stage alone: its accuracy stays at chance level.
Training therefore uses a curriculum in which each stage builds on the previous one and begins when that one is passed:
repeating a sequence, looking up a key, then calls of increasingly large domains. The loss covers only tokens that the
context determines, because training on the others would teach the model to guess.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from transformers import Lfm2Config, Lfm2ForCausalLM

from ragkit.tiny._tokenizer import build_tokenizer
from ragkit.tiny.domains import WORDS, Call, CallDomain

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

WINDOW = 2048
PAD, BOS = 0, 1


@dataclass(frozen=True)
class Stage:
    """A stage of the curriculum: the kind of sequence, the maximum size of a domain, and the accuracy to pass."""

    kind: str
    commands: int = 0
    cues: int = 0
    most_cues: int = 0
    examples: int = 0
    pass_at: float = 0.97


STAGES = (
    Stage("repeat"),
    Stage("lookup", pass_at=0.95),
    Stage("calls", commands=2, cues=2, most_cues=1, examples=8),
    Stage("calls", commands=4, cues=3, most_cues=2, examples=10),
    Stage("calls", commands=6, cues=5, most_cues=2, examples=10, pass_at=0.96),
    Stage("varied", commands=12, cues=7, most_cues=3, examples=14),
)
FREE, GIVEN, MAPPED = 0, 1, 2  # not determined by the context; copied or fixed; inferred from an earlier example


class Sequence:
    """Token ids, each with a kind: `FREE`, `GIVEN` or `MAPPED`."""

    def __init__(self, encode: Encoder) -> None:
        self.encode = encode
        self.ids = [BOS]
        self.kinds = [FREE]

    def add(self, piece: str, kind: int = FREE) -> None:
        """Append one piece of text."""
        ids = self.encode(piece)
        self.ids += ids
        self.kinds += [kind] * len(ids)


class Encoder:
    """A cache of the tokenizer for single pieces of text."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer = tokenizer
        self.known: dict[str, list[int]] = {}

    def __call__(self, piece: str) -> list[int]:
        """Return the ids of ``piece``."""
        ids = self.known.get(piece)
        if ids is None:
            ids = self.tokenizer(piece, add_special_tokens=False)["input_ids"]
            if len(self.known) < 5000:
                self.known[piece] = ids
        return ids


def repeat(encode: Encoder, rng: Random, _: Stage) -> Sequence:
    """Create a random sequence that occurs twice; the loss covers the second occurrence."""
    sequence = Sequence(encode)
    words = rng.sample(WORDS, rng.randint(4, 16))
    for kind in (FREE, MAPPED):
        for word in words:
            sequence.add(f" {word}", kind)
        sequence.add("\n\n", kind)
    return sequence


def lookup(encode: Encoder, rng: Random, _stage: Stage) -> Sequence:
    """Create examples of keys and values; the loss covers a value from its second occurrence."""
    sequence = Sequence(encode)
    pairs = rng.randint(2, 6)
    words = rng.sample(WORDS, 2 * pairs)
    seen: set[int] = set()
    for _ in range(3 * pairs):
        row = rng.randrange(pairs)
        for piece in ("Input:", f" {words[row]}", "\n", "Output:"):
            sequence.add(piece)
        sequence.add(f" {words[pairs + row]}", MAPPED if row in seen else FREE)
        sequence.add("\n\n", GIVEN)
        seen.add(row)
    return sequence


def calls(encode: Encoder, rng: Random, stage: Stage) -> Sequence:
    """Create examples of one domain of the size of the stage."""
    domain = CallDomain.draw(rng, commands=stage.commands, cues=stage.cues, most_cues=stage.most_cues)
    return _episode(encode, [domain.call(rng) for _ in range(stage.examples)])


def varied(encode: Encoder, rng: Random, stage: Stage) -> Sequence:
    """Create examples as in practice: any size of domain and number, unknown words, instructions, similar examples."""
    words = _with_unknown_words(rng) if rng.random() < 0.15 else WORDS
    domain = CallDomain.draw(
        rng,
        commands=rng.randint(3, stage.commands),
        cues=rng.randint(1, stage.cues),
        most_cues=rng.randint(1, stage.most_cues),
        words=words,
    )
    shots = rng.randint(4, stage.examples) if rng.random() < 0.97 else rng.randint(20, 70)
    shown = [domain.call(rng) for _ in range(shots)]
    if rng.random() < 0.4:  # as with a selector: examples that share words with the last one
        query, pool = shown[-1], [domain.call(rng) for _ in range(6 * shots)]
        pool.sort(key=lambda call: len(query.needs & call.needs))
        shown = [*pool[-shots + 1 :], query]
    return _episode(encode, shown, instruction=rng.choices(WORDS, k=rng.randint(3, 10)) if rng.random() < 0.4 else ())


def _with_unknown_words(rng: Random) -> tuple[str, ...]:
    letters = "abcdefghijklmnopqrstuvwxyz0123456789_"
    made = {"".join(rng.choices(letters, k=rng.randint(2, 6))) for _ in range(60)}
    return (*rng.sample(WORDS, 60), *sorted(made - set(WORDS)))


def _episode(encode: Encoder, shown: list[Call], *, instruction: tuple[str, ...] | list[str] = ()) -> Sequence:
    sequence = Sequence(encode)
    if instruction:
        for word in instruction:
            sequence.add(f" {word}")
        sequence.add("\n\n")
    seen: set[str] = set()
    for call in shown:
        for piece in ("Input:", *(f" {word}" for word in call.request), "\n", "Output:"):
            sequence.add(piece)
        sequence.add(f" {call.call[0]}", MAPPED if call.command in seen else FREE)
        for place, piece in enumerate(call.call[1:], 1):
            cue = call.call[place - 1] if call.call[place - 2] == "," else None
            kind = GIVEN if cue is None else MAPPED if cue in seen else FREE
            sequence.add(piece if piece in ",:" else f" {piece}", kind)
        sequence.add("\n\n", GIVEN)
        seen |= call.needs
    return sequence


MAKERS = {"repeat": repeat, "lookup": lookup, "calls": calls, "varied": varied}


def make_batch(encode: Encoder, rng: Random, stage: Stage, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Create sequences of a stage with about ``tokens`` tokens: ids and kinds, int64[b, t], padded on the right."""
    made: list[Sequence] = []
    while sum(len(sequence.ids) for sequence in made) < tokens:
        sequence = MAKERS[stage.kind](encode, rng, stage)
        if len(sequence.ids) <= WINDOW:
            made.append(sequence)
    longest = max(len(sequence.ids) for sequence in made)
    ids, kinds = torch.full((len(made), longest), PAD), torch.full((len(made), longest), FREE)
    for row, sequence in enumerate(made):
        ids[row, : len(sequence.ids)] = torch.tensor(sequence.ids)
        kinds[row, : len(sequence.ids)] = torch.tensor(sequence.kinds)
    return ids, kinds


def build_model(vocabulary: int, *, width: int, layers: int) -> Lfm2ForCausalLM:
    """Build a decoder that alternates short convolutions and attention layers, with random weights."""
    return Lfm2ForCausalLM(
        Lfm2Config(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=2 * width,
            block_auto_adjust_ff_dim=False,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=WINDOW,
            tie_word_embeddings=True,
            initializer_range=0.05,
            layer_types=["conv", "full_attention"] * (layers // 2),
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )
    )


def train(
    out: Path,
    *,
    width: int = 128,
    layers: int = 6,
    seed: int = 7,
    max_steps: int = 20_000,
    final_steps: int = 4_000,
    tokens: int = 2_500,
    learning_rate: float = 2e-3,
    log_every: int = 100,
    stages: tuple[Stage, ...] = STAGES,
    start: Path | None = None,
) -> list[dict[str, float]]:
    """Train a model on the curriculum and save it to ``out``.

    Args:
        out: The folder for weights, configuration and tokenizer.
        width: Hidden size.
        layers: Number of layers, half of them attention.
        seed: Seed of weights and data.
        max_steps: Maximum number of steps.
        final_steps: Number of steps of the last stage, in which the learning rate decays to a twentieth.
        tokens: Approximate number of tokens per step.
        learning_rate: Maximum learning rate of AdamW.
        log_every: Number of steps between two log records, each with a checkpoint.
        stages: The curriculum.
        start: Folder of a model to start from; None for random weights.

    Returns:
        The log: step, stage, loss and accuracy on the tokens that are inferred from an earlier example.
    """
    torch.manual_seed(seed)
    rng = Random(seed)
    tokenizer = build_tokenizer(WINDOW)
    encode = Encoder(tokenizer)
    model = build_model(len(tokenizer), width=width, layers=layers)
    if start is not None:
        model = Lfm2ForCausalLM.from_pretrained(start, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    recent: list[float] = []
    log: list[dict[str, float]] = []
    started, stage, passed_at = time.time(), 0, 0
    for step in range(max_steps):
        last = stage == len(stages) - 1
        if last and step - passed_at >= final_steps:
            break
        current = stages[stage] if stage == 0 or rng.random() < 0.8 else stages[rng.randrange(stage)]
        batch = make_batch(encode, rng, current, tokens)
        rate = learning_rate * min(1.0, (step + 1) / 100)
        if last:
            rate *= 1 - 0.95 * (step - passed_at) / final_steps
        loss, mapped = _step(model, optimizer, *batch, rate)
        if current is stages[stage]:
            recent = [*recent[-39:], mapped]
        accuracy = sum(recent) / max(1, len(recent))
        seconds = f"{time.time() - started:.0f}s"
        if (step + 1) % log_every == 0:
            log.append({"step": step + 1, "stage": stage, "loss": loss, "accuracy": accuracy})
            print(f"{step + 1} {seconds} stage {stage} loss {loss:.3f} mapped {accuracy:.3f}", flush=True)
            save(model, tokenizer, out)
        if not last and len(recent) == 40 and accuracy > stages[stage].pass_at:
            print(f"passed {stages[stage]} at step {step + 1}, {seconds}", flush=True)
            stage, passed_at, recent = stage + 1, step + 1, []
    save(model, tokenizer, out)
    return log


def _step(model: Any, optimizer: torch.optim.Optimizer, ids: Any, kinds: Any, rate: float) -> tuple[float, float]:
    """Train on one batch, and return the loss and the accuracy on the tokens inferred from an earlier example."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    counted = kinds[:, 1:] != FREE
    hidden = model.model(input_ids=ids, attention_mask=(ids != PAD).long()).last_hidden_state
    logits, expected = model.lm_head(hidden[:, :-1][counted]), ids[:, 1:][counted]
    loss = torch.nn.functional.cross_entropy(logits, expected)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    mapped = kinds[:, 1:][counted] == MAPPED
    return loss.item(), (logits.argmax(-1) == expected)[mapped].float().mean().item()


def save(model: Lfm2ForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Save the weights in half precision, the configuration and the tokenizer."""
    weights = {name: value.half() for name, value in model.state_dict().items()}
    model.save_pretrained(out, state_dict=weights)
    tokenizer.save_pretrained(out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    for option, default in (("--width", 128), ("--layers", 6), ("--seed", 7), ("--final-steps", 4000)):
        parser.add_argument(option, type=int, default=default)
    parser.add_argument("--start", type=Path, help="start from this model")
    parser.add_argument("--from-stage", type=int, default=0)
    given = vars(parser.parse_args())
    train(stages=STAGES[given.pop("from_stage") :], **given)
