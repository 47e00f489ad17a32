import json
from dataclasses import replace

import pytest

from ragkit import Budget, Completion, Example, ScriptedModel, Template, Usage, finetune
from ragkit.errors import BatchError, BudgetExceededError, EmptyPoolError, IntegrityError, InvalidInputError
from ragkit.finetuning import imitate
from ragkit.models import LayeredModel

INPUTS = [f"call {n}" for n in range(10)]


class Priced(ScriptedModel):
    """Costs a cent a call."""

    def _complete(self, prompts, sampling):
        return [replace(done, cost=0.01) for done in super()._complete(prompts, sampling)]


def teacher(**kind):
    def answer(prompt):
        return " " + prompt.rsplit("Input: ", 1)[1].split("\n")[0].upper() + "\n\nInput: more"

    return kind.get("of", Priced)(answer)


def test_answers_become_rows_with_their_cost(tmp_path):
    model = teacher()
    done = imitate(model, [*INPUTS, "call 3"], examples=[Example("a", "A")], template=Template(instruction="Shout."))
    assert done.examples[:2] == (Example("call 0", "CALL 0"), Example("call 1", "CALL 1"))
    assert done.examples[10] == Example("call 3", "CALL 3")
    assert len(model.asked) == done.asked == 10  # equal inputs are asked once
    assert model.asked[0] == "Shout.\n\nInput: a\nOutput: A\n\nInput: call 0\nOutput:"
    assert done.cost == pytest.approx(0.10)
    assert done.usage.prompt_tokens == sum(model.count_tokens(prompt) for prompt in model.asked)
    finetune("tiny", done.examples, epochs=1, output_dir=tmp_path)


def test_a_call_that_was_stopped_goes_on(tmp_path):
    class Dies(Priced):
        def _complete(self, prompts, sampling):
            if len(self.asked) >= 4:
                raise KeyboardInterrupt
            return super()._complete(prompts, sampling)

    out = tmp_path / "answers.jsonl"
    first = teacher(of=Dies)
    with pytest.raises(KeyboardInterrupt):
        imitate(first, INPUTS, out=out, group=2)
    with out.open("a") as file:
        file.write('{"prompt": "Input: call 4')  # the line that a kill cut off
    second = teacher()
    done = imitate(second, INPUTS, out=out, group=2)
    assert (len(first.asked), len(second.asked), done.asked) == (4, 6, 6)
    assert done.examples == imitate(teacher(), INPUTS).examples
    assert done.cost == pytest.approx(0.10)  # what was paid before counts
    third = teacher()
    assert imitate(third, INPUTS, out=out).asked == len(third.asked) == 0


def test_answers_that_teach_nothing_are_dropped():
    model = ScriptedModel([" fine", "", " far too long an answer"])
    done = imitate(model, ["a", "b", "c"], max_tokens=3)
    assert done.examples == (Example("a", "fine"),)
    assert done.dropped == ((1, "the answer is empty"), (2, "the answer was truncated at `max_tokens`"))


def test_an_unknown_price_is_not_zero():
    class Unpriced(ScriptedModel):
        def _complete(self, prompts, sampling):
            return [
                Completion(text=" x", usage=Usage(), cost=None if "b" in prompt.text else 1.0) for prompt in prompts
            ]

    assert imitate(Unpriced([]), ["a"]).cost == 1.0
    assert imitate(Unpriced([]), ["a", "b"]).cost is None


def test_a_budget_ends_it_and_nothing_is_lost(tmp_path):
    out = tmp_path / "answers.jsonl"
    with pytest.raises(BudgetExceededError):
        imitate(LayeredModel(teacher(), budget=Budget(calls=4)), INPUTS, out=out, group=2)
    model = teacher()
    imitate(model, INPUTS, out=out)
    assert len(model.asked) == 6


def test_what_was_answered_of_a_group_is_kept(tmp_path):
    out = tmp_path / "answers.jsonl"
    with pytest.raises(BatchError, match="6 of 10 prompts got no answer"):
        imitate(LayeredModel(teacher(), budget=Budget(calls=4)), INPUTS, out=out, group=10)
    model = teacher()
    imitate(model, INPUTS, out=out)
    assert len(model.asked) == 6


def test_another_file_is_refused_and_kept(tmp_path):
    out = tmp_path / "answers.jsonl"
    imitate(teacher(), INPUTS, out=out)
    with pytest.raises(InvalidInputError, match="another teacher or other settings"):
        imitate(teacher(), INPUTS, out=out, temperature=0.5)
    lines = out.read_text().splitlines()
    out.write_text("\n".join([lines[0], "{}", *lines[2:]]) + "\n")
    with pytest.raises(IntegrityError, match="line 2 is damaged"):
        imitate(teacher(), INPUTS, out=out)
    for text in ("my notes", "my notes\n", "[1]\n", json.dumps({"a": 1}) + "\n"):
        out.write_text(text)
        with pytest.raises(InvalidInputError, match="give another `out`"):
            imitate(teacher(), INPUTS, out=out)
        assert out.read_text() == text
    with pytest.raises(EmptyPoolError):
        imitate(teacher(), [])
    with pytest.raises(InvalidInputError, match="must be a sequence"):
        imitate(teacher(), "call")
