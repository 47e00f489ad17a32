"""Instructions of steps: plain words with the arguments filled in, and no notation of plans."""

import re

import pytest
from recorded_pearl import plan

from ragkit.models._scripted import ScriptedModel
from ragkit_pipelines.pearl.pipeline import Pearl
from ragkit_pipelines.pearl.plan.action import Action
from ragkit_pipelines.pearl.plan.instructions import instruction_of, subjects_of
from ragkit_pipelines.pearl.plan.library import ActionLibrary
from ragkit_pipelines.pearl.plan.nodes import Ctx, Step, Text, Variable
from ragkit_pipelines.pearl.run.early_stop import EarlyStop, no_plan_in

LIBRARY = ActionLibrary.default()


def step(text, parameters, *arguments):
    return Step("out", Action("DO", parameters, text), arguments, "note")


@pytest.mark.parametrize("action", [each for each in LIBRARY if each.reads_document], ids=lambda each: each.name)
def test_no_step_is_shown_the_notation_of_plans(action):
    names = action.parameters[1:]
    arguments = ", ".join('["red", "blue"]' if name == "LIST" else f'"the {name.lower()}-word"' for name in names)
    made = plan(f"1. a = {action.name}(CTX{', ' if arguments else ''}{arguments}) : Step A")
    model = ScriptedModel(lambda _: "- x")
    Pearl(model).invoke("?", "A text.", plan=made)
    asked = model.asked[0]
    assert action.name not in asked
    assert not re.search(r"\b(?:CTX|LIST|X|Y|S1)\b", asked)
    assert all(f"the {name.lower()}-word" in asked for name in names if name != "LIST")
    assert ("<list>\n- red\n- blue\n</list>" in asked) == ("LIST" in names)


def test_arguments_are_filled_in_once():
    said = instruction_of(step("Compare X and Y.", ("CTX", "X", "Y"), Ctx(), Text("Y of\n CTX"), Text("X")), {})
    assert said == "Compare Y of CTX and X."
    assert instruction_of(step("Say X.", ("CTX", "X", "Y"), Ctx(), Text("a"), Text("b")), {}) == "Say a. (Y: b)"
    assert instruction_of(step("A list of A.", ("CTX", "A"), Ctx(), Text("b")), {}) == "A list of A. (A: b)"
    assert instruction_of(step("say $1 {x} X", ("CTX", "X"), Ctx(), Text("{0}")), {}) == "Say $1 {x} {0}"


def test_values_are_named_by_their_subject():
    made = plan(
        '1. keeper = WHO_IS(CTX, "the keeper") : Who',
        '2. cause = CAUSE_OF(CTX, "the keeper") : Why',
        "3. all = SUMMARY(CTX) : All",
        "4. both = CONCAT(keeper, all) : Both",
        "5. end = COMPARE(CTX, keeper, both) : Compare",
    )
    assert subjects_of(made.steps) == {
        "keeper": "the keeper",
        "cause": "the keeper (cause of)",
        "all": "the whole text",
        "both": "the keeper and the whole text",
        "end": "the keeper (compare)",
    }
    last = made.steps[-1]
    assert isinstance(last.arguments[1], Variable)
    assert instruction_of(last, subjects_of(made.steps[:-1])).startswith(
        "Compare the keeper and the keeper and the whole text:"
    )


PLAN = 'New actions:\n- None\n\n1. a = ABOUT(CTX, "a") : Step A\n2. b = ABOUT(CTX, "b") : Step B'


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (PLAN, ""),
        ("", ""),
        ("Let me think about the question first.", ""),
        ("<think>" + "Let me think. " * 99, ""),
        ("<think>" + "Let me think. " * 99 + "</think>\n" + PLAN, ""),
        ("The story is about a man who left his house. " + "He had many reasons, as we will see below. " * 14, "prose"),
        ("New actions:\n- None\n\n" + '1. a = ABOUT(CTX, "a") : Step A\n' * 5, "repeats"),
        ("New actions:\n" + "the same words over and over again, " * 9, "repeats"),
        ('1. s1 = ABOUT(CTX, "' + "ha" * 60, "repeats"),
    ],
)
def test_answers_without_a_plan_are_noticed(answer, reason):
    assert (reason in no_plan_in(answer)) if reason else not no_plan_in(answer)


def test_an_answer_is_abandoned_when_it_cannot_become_a_plan():
    class Streaming(ScriptedModel):
        pieces = 0

        def _pieces(self, prompt, sampling):
            answer = self._complete([prompt], sampling)[0]
            for word in answer.text.split(" "):
                self.pieces += 1
                yield f"{word} "
            return answer

    model = Streaming(lambda _: "The man left. " + "He had another good reason for it, they said. " * 200)
    answer = EarlyStop(model, no_plan_in).generate("why?", max_tokens=5000)
    assert model.pieces < 400
    assert answer.usage.completion_tokens < 500
    whole = Streaming(lambda _: PLAN)
    assert EarlyStop(whole, no_plan_in).generate("why?").text.strip() == PLAN
