"""Orders judged by entropy, and examples judged by what they help."""

from itertools import permutations

import numpy as np
import pytest
from scipy.stats import entropy

from ragkit import ScriptedModel
from ragkit.errors import EmptyPoolError, InvalidInputError, UnsupportedError
from ragkit.models._base import ModelBase
from ragkit.protocols import Capabilities
from ragkit.records import Example
from ragkit.templates import Template
from ragkit_selectors import entropy_order, score_examples

EXAMPLES = [Example("red", "warm"), Example("blue", "cold"), Example("orange", "warm")]
PROBES = ["green", "yellow", "violet", "grey"]


class ByPosition(ScriptedModel):
    """Likes the label of the last example, the more so the longer the probe."""

    capabilities = Capabilities(score=True)

    def score(self, prompts, choices, *, end_of_turn=False):
        table = np.zeros((len(prompts), len(choices)))
        for row, prompt in enumerate(prompts):
            last = prompt.prefix.strip().rsplit("Output: ", 1)[1].split("\n")[0]
            probe = prompt.suffix.split("Input: ")[1].split("\n")[0]
            for column, choice in enumerate(choices):
                assert choice in {" warm\n\n", " cold\n\n"}
                table[row, column] = (choice.strip() == last) * (len(probe) - 4) * (1 if last == "warm" else 0.1)
        return table


def by_hand(kind):
    model, template = ByPosition([]), Template()
    tried = []
    for order in permutations(range(3)):
        scores = model.score(
            [template.prompt([EXAMPLES[place] for place in order], probe) for probe in PROBES],
            [" warm\n\n", " cold\n\n"],
        )
        if kind == "local":
            value = np.mean([entropy(np.exp(row) / np.exp(row).sum()) for row in scores])
        else:
            shares = np.maximum(np.bincount(scores.argmax(axis=1), minlength=2) / len(PROBES), 1e-5)
            value = -(shares * np.log(shares)).sum()
        tried.append((order, value))
    return sorted(tried, key=lambda pair: -round(pair[1], 9))


@pytest.mark.parametrize("kind", ["global", "local"])
def test_equals_the_definition(kind):
    found = entropy_order(EXAMPLES, PROBES, ["warm", "cold"], ByPosition([]), kind=kind)
    expected = by_hand(kind)
    assert [order for order, _ in found.orders] == [order for order, _ in expected]
    assert [value for _, value in found.orders] == pytest.approx([value for _, value in expected])
    assert found.examples == tuple(EXAMPLES[place] for place in expected[0][0])
    assert found.orders[0][1] > found.orders[-1][1]


def test_many_examples_are_drawn_from():
    many = [Example(str(n), "warm" if n % 2 else "cold") for n in range(8)]
    found = entropy_order(many, PROBES[:2], ["warm", "cold"], ByPosition([]), limit=10, seed=1)
    orders = [order for order, _ in found.orders]
    assert len(set(orders)) == 10
    assert tuple(range(8)) in orders
    again = entropy_order(many, PROBES[:2], ["warm", "cold"], ByPosition([]), limit=10, seed=1)
    assert again == found


def test_on_a_real_model(tiny):
    found = entropy_order(EXAMPLES, PROBES, ["warm", "cold"], tiny, kind="local")
    template = Template()
    order, value = found.orders[0]
    prompts = [template.prompt([EXAMPLES[place] for place in order], probe) for probe in PROBES]
    scores = tiny.score(prompts, [" warm\n\n", " cold\n\n"])
    assert value == pytest.approx(np.mean([entropy(np.exp(row - row.max())) for row in scores]), abs=1e-4)
    helped = score_examples(tiny, EXAMPLES, EXAMPLES[:2])
    assert helped.shape == (2, 3)
    one = tiny.score([template.prompt([EXAMPLES[2]], "red")], [" warm\n\n"])
    assert helped[0, 2] == pytest.approx(one[0, 0], abs=1e-3)


def test_score_examples_by_a_function():
    def score(prompts, answers):
        assert set(answers) <= {" warm\n\n", " cold\n\n"}
        return np.array([len(prompt) for prompt in prompts])

    helped = score_examples(score, EXAMPLES, [Example("sky", "cold"), Example("sun", "warm")])
    lengths = [[len(Template().prompt([each], text).text) for each in EXAMPLES] for text in ("sky", "sun")]
    assert helped.tolist() == lengths


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"examples": []}, EmptyPoolError),
        ({"probes": []}, InvalidInputError),
        ({"labels": ["warm", "warm"]}, InvalidInputError),
        ({"labels": "ab"}, InvalidInputError),
        ({"probes": "ab"}, InvalidInputError),
        ({"kind": "total"}, InvalidInputError),
        ({"limit": 0}, InvalidInputError),
        ({"model": ScriptedModel(["x"])}, UnsupportedError),
    ],
)
def test_bad_arguments(change, error):
    arguments = {"examples": EXAMPLES, "probes": PROBES, "labels": ["warm", "cold"], "model": ByPosition([])} | change
    with pytest.raises(error):
        entropy_order(**arguments)
    assert issubclass(ByPosition, ModelBase)
