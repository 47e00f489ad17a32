"""Measurements of demonstrations with a language model: the least biased order, and the most helpful examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from math import factorial
from random import Random
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ragkit._text import refuse_bare_string
from ragkit.errors import EmptyPoolError, InvalidInputError
from ragkit.models import load_model
from ragkit.protocols import LanguageModel
from ragkit.records import Example, Fields
from ragkit.templates import Template
from ragkit_selectors.stages.rerank import Score

_NONE = 1e-5  # share of a label that is never predicted


@dataclass(frozen=True, slots=True)
class EntropyOrder:
    """The best of several orders.

    Attributes:
        examples: The examples in the best order.
        orders: All orders that were tried, as indices, with their entropy in nats; the best first.
    """

    examples: tuple[Example, ...]
    orders: tuple[tuple[tuple[int, ...], float], ...]


def entropy_order(
    examples: Sequence[Example],
    probes: Sequence[str | Fields],
    labels: Sequence[str],
    model: str | LanguageModel,
    *,
    template: Template | None = None,
    kind: Literal["global", "local"] = "global",
    limit: int = 24,
    seed: int = 0,
) -> EntropyOrder:
    """Find the order of demonstrations under which a model is least biased (arXiv 2104.08786).

    GlobalE is the entropy of the predicted labels over all probes. LocalE is the mean entropy of the label
    probabilities. Higher is better; ties go to the order that was tried first.

    Args:
        examples: The demonstrations.
        probes: Inputs without labels; in the paper, the model generates them.
        labels: The labels, at least two.
        model: A model that can score, or its spec.
        template: Format of the examples.
        kind: ``"global"`` or ``"local"``.
        limit: Maximum number of orders. If there are more, this many are sampled, including the original order.
        seed: Seed of the sample.

    Returns:
        The best order and all orders that were tried.

    Raises:
        EmptyPoolError: If there are no examples.
        InvalidInputError: If another argument is out of range.
    """
    if not examples:
        raise EmptyPoolError("entropy_order")
    refuse_bare_string("probes", probes)
    refuse_bare_string("labels", labels)
    if not probes or len(set(labels)) < 2 or kind not in {"global", "local"} or limit < 1:
        raise InvalidInputError(
            "`probes` must not be empty, `labels` two or more, `kind` 'global' or 'local' and `limit` 1 or more; got "
            f"{len(probes)} probes, {list(labels)}, {kind!r} and {limit}"
        )
    judge = load_model(model)
    template = (template or Template()).for_model(judge)
    choices = [template.render_answer(label) for label in labels]
    tried = []
    for order in _orders(len(examples), limit, seed):
        shown = [examples[place] for place in order]
        prompts = [template.prompt(shown, probe) for probe in probes]
        scores = judge.score(prompts, choices, end_of_turn=template.form == "chat")
        tried.append((order, _entropy(scores, kind)))
    tried.sort(key=lambda pair: -round(pair[1], 9))  # stable
    return EntropyOrder(tuple(examples[place] for place in tried[0][0]), tuple(tried))


def score_examples(
    score: Score | LanguageModel,
    examples: Sequence[Example],
    dev: Sequence[Example],
    *,
    template: Template | None = None,
) -> NDArray[np.float64]:
    """Score how much each example helps with each row: the log-likelihood of the correct answer after that example.

    Learned retrievers are trained on this signal (EPR, arXiv 2112.08633). Its mean over the rows shows which examples
    are useful in every prompt.

    Args:
        score: A language model, or a function of n prompts and n answers that returns f64[n], higher for better.
        examples: c examples.
        dev: m rows with their correct answers.
        template: Format of the examples.

    Returns:
        f64[m, c], higher is better.
    """
    template = template or Template()
    if isinstance(score, LanguageModel):
        template = template.for_model(score)
    helped = np.empty((len(dev), len(examples)))
    for row, right in enumerate(dev):
        prompts = [template.prompt([example], right.input) for example in examples]
        answer = template.render_answer(right.output)
        if isinstance(score, LanguageModel):
            helped[row] = score.score(prompts, [answer], end_of_turn=template.form == "chat")[:, 0]
        else:
            helped[row] = score([prompt.text for prompt in prompts], [answer] * len(prompts))
    return helped


def _orders(count: int, limit: int, seed: int) -> list[tuple[int, ...]]:
    if factorial(min(count, 20)) <= limit:
        return list(permutations(range(count)))
    rng, found = Random(seed), {tuple(range(count)): None}
    while len(found) < limit:
        found.setdefault(tuple(rng.sample(range(count), count)))
    return list(found)


def _entropy(scores: NDArray[np.float64], kind: str) -> float:
    """Return the entropy of log-likelihoods f64[probes, labels], in nats."""
    if kind == "global":
        counts = np.bincount(scores.argmax(axis=1), minlength=scores.shape[1])
        shares = np.maximum(counts / len(scores), _NONE)[None]
    else:
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
    return float(-(shares * np.log(np.maximum(shares, 1e-300))).sum(axis=1).mean())
