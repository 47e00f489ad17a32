"""The planner: corrections, the fallback, repairs and prompts."""

import pytest
from recorded_pearl import GOOD, THREE, CountingModel, by_step, is_planning, quick

from ragkit.errors import InvalidInputError, PlanError
from ragkit.models._budget import Budget
from ragkit.models._scripted import ScriptedModel
from ragkit_pipelines.pearl.pipeline import Pearl
from ragkit_pipelines.pearl.plan.library import ActionLibrary, Demonstration
from ragkit_pipelines.pearl.plan.planner import PromptPlanner, ZeroShot

WRONG = GOOD.replace("ABOUT(", "ABOUTT(")


def by_turns(*texts):
    """Answers the planning calls one after the other, the steps by name."""
    left = list(texts)
    return lambda prompt: left.pop(0) if is_planning(prompt) else by_step(prompt)


def test_a_rejected_plan_is_sent_back_with_its_mistakes_and_their_positions():
    model = CountingModel(by_turns(WRONG, GOOD.replace('"a"', "'a'"), GOOD))
    run = Pearl(model, executor=quick()).invoke("why?", "text")
    assert run.text == "value of B"
    assert [[each.code for each in found] for _, found in run.planning.rejected] == [
        ["unknown-action"],
        ["single-quotes"],
    ]
    second, third = (prompt for prompt in model.asked if prompt.endswith("put right:\n\n"))
    assert f"<plan>\n{WRONG}\n</plan>" in second
    assert "line 4, column 8: there is no action ABOUTT; did you mean ABOUT" in second
    assert "in double quotes" in third
    assert "ABOUTT" not in third  # only the last plan and its problems are shown
    assert len({prompt.split("Question: why?")[0] for prompt in model.asked if is_planning(prompt)}) == 1


def test_a_plan_is_read_after_the_reasoning():
    model = CountingModel(by_turns(f"<think>{WRONG}</think>\n{GOOD}"))
    run = Pearl(model, executor=quick()).invoke("why?", "text")
    assert (run.text, run.by_purpose["plan"]) == ("value of B", 1)


def test_without_a_valid_plan_the_question_is_answered_directly():
    model = CountingModel(lambda prompt: "I cannot." if is_planning(prompt) else "direct answer")
    run = Pearl(model, executor=quick(), planner=PromptPlanner(max_corrections=2)).invoke("why?", "text")
    assert (run.text, run.status, run.planning.source) == ("direct answer", "done", "fallback")
    assert f"done without a plan ({len(run.planning.rejected)} plans rejected)" in run.explain()
    assert run.planning.reason.startswith("2 plans were rejected")
    assert run.by_purpose == {"plan": 2, "step": 1}  # the same words are not asked a third time
    assert run.plan == ZeroShot().plan()
    none = Pearl(model, executor=quick(), fallback=None).invoke("why?", "text")
    assert (none.status, none.answer, none.plan) == ("failed", "", None)
    assert "plans were rejected" in none.reasons[0]
    with pytest.raises(PlanError):
        Pearl(model, executor=quick()).plan("why?")


def test_the_number_of_corrections_is_limited():
    count = iter(range(100))
    model = CountingModel(lambda prompt: f"plan {next(count)}" if is_planning(prompt) else "direct answer")
    run = Pearl(model, executor=quick(), planner=PromptPlanner(max_corrections=5)).invoke("why?", "text")
    assert run.by_purpose == {"plan": 6, "step": 1}
    assert [text for text, _ in run.planning.rejected] == [f"plan {n}" for n in range(6)]


@pytest.mark.parametrize("reply", ["", "\0", "x" * 20_000, '__import__("os").system("ls")', GOOD + "\nThis = it."])
def test_any_response_of_the_planner_leads_to_an_answer(reply):
    model = CountingModel(lambda prompt: reply if is_planning(prompt) else "direct answer")
    run = Pearl(model, executor=quick(retries=0)).invoke("why?", "text")
    assert (run.text, run.planning.source) == ("direct answer", "fallback")
    assert run.by_purpose["plan"] <= 4


def test_a_budget_spent_on_planning_is_reported():
    model = CountingModel(lambda _: "no plan")
    run = Pearl(model, executor=quick()).invoke("why?", "text", budget=Budget(calls=1))
    assert run.status == "failed"
    assert len(model.asked) == 1
    assert "the budget is 1" in run.planning.reason + run.reasons[0]


def test_repairs_are_optional_and_listed():
    slip = GOOD.replace("1. a", "1) a")
    strict = Pearl(CountingModel(by_turns(slip, GOOD)), executor=quick()).invoke("why?", "text")
    assert len(strict.planning.rejected) == 1
    mended = Pearl(CountingModel(by_turns(slip)), executor=quick(), planner=PromptPlanner(repair=True)).invoke(
        "why?", "t"
    )
    assert not mended.planning.rejected
    assert [each.code for each in mended.plan.diagnostics if each.level == "repair"] == ["number-sign"]


def test_unused_values_are_pruned_or_kept():
    loose = GOOD + '\n3. ans = CONCAT(b) : Step C\n4. x = ABOUT(CTX, "x") : Step D\n5. end = CONCAT(ans) : Step E'
    for dangling, outs in (("prune", ["a", "b"]), ("keep", ["a", "b", "x", "end"])):
        pearl = Pearl(ScriptedModel(lambda _: loose), planner=PromptPlanner(dangling=dangling))
        assert [step.out for step in pearl.plan("why?").steps] == outs
    with pytest.raises(InvalidInputError, match="dangling"):
        PromptPlanner(dangling="all")
    with pytest.raises(InvalidInputError, match="max_corrections"):
        PromptPlanner(max_corrections=-1)


def test_the_prompt_begins_with_actions_and_demonstrations():
    model = ScriptedModel([GOOD, GOOD])
    Pearl(model).plan("Who is\nthere?")
    default = ActionLibrary.default()
    assert default.to_text() in model.asked[0]
    assert all(each.plan.render() in model.asked[0] for each in default.demonstrations)
    assert model.asked[0].endswith("Question: Who is there?\n\n")
    own = (Demonstration("one?", THREE),)
    Pearl(model, planner=PromptPlanner(demonstrations=own)).plan("x?")
    assert THREE.render() in model.asked[1]
    assert default.demonstrations[0].plan.render() not in model.asked[1]


def test_the_planners_prefix_is_sent_once_for_a_batch():
    model = CountingModel(lambda prompt: GOOD if is_planning(prompt) else by_step(prompt), seconds=0.01)
    pearl = Pearl(model, executor=quick(concurrency=8))
    pearl.batch([f"question {n}?" for n in range(12)], "a short text")
    prefix = model.asked[0]
    assert prefix.startswith("Questions about a long text are answered by plans.")
    assert not prefix.endswith("?\n\n")
    assert sum(text == prefix for text in model.asked) == 1
