"""The grammar of plans: what it accepts, libraries of any size, and planning with models that are constrained to it."""

import itertools
import time

import pytest
from recorded_pearl import quick

from ragkit.errors import AnswerFormError, InvalidInputError, PlanError
from ragkit.models import load_model
from ragkit.models._base import ModelBase
from ragkit.models._budget import Budget
from ragkit.models._grammar_check import GrammarCheck
from ragkit.models._prompts import prompt_text
from ragkit.models._scripted import ScriptedModel
from ragkit.protocols import Capabilities
from ragkit.records import Chat, Completion, Usage
from ragkit_pipelines.pearl.pipeline import Pearl
from ragkit_pipelines.pearl.plan.action import Action
from ragkit_pipelines.pearl.plan.grammar import PlanGrammar
from ragkit_pipelines.pearl.plan.library import ActionLibrary
from ragkit_pipelines.pearl.plan.planner import PromptPlanner
from ragkit_pipelines.pearl.prompts import LIST_GRAMMAR
from ragkit_pipelines.pearl.run import answering, executor

LIBRARY = ActionLibrary.default()
QUESTION = "Why did the keeper of the light stay, and what does the second silence mean?"
PLAN = 's1 = WHO_IS(CTX, "the keeper")\ns2 = MEANING_OF(CTX, "the second silence")'
OTHER = 's1 = CAUSE_OF(CTX, "the keeper")'
TWICE = 's1 = WHO_IS(CTX, "the keeper")\ns2 = WHO_IS(CTX, "the keeper")'


class Constrained(ModelBase):
    """A scripted model with the capability; it records the grammar of each call."""

    name = fingerprint = "constrained"
    capabilities = Capabilities(grammar=True, chat=True)

    def __init__(self, answer) -> None:
        self.answer, self.calls = answer, []

    def _complete(self, prompts, sampling):
        return [self._one(prompt, sampling) for prompt in prompts]

    def _one(self, prompt, sampling):
        self.calls.append((prompt, sampling))
        text = self.answer(prompt_text(prompt))
        kept = text.encode()[: 4 * sampling.max_tokens].decode(errors="ignore")
        usage = Usage(prompt_tokens=1, completion_tokens=self.count_tokens(kept))
        return Completion(text=kept, usage=usage, cost=0.0, finish_reason="stop" if kept == text else "length")


def constrained(*plans):
    """Answers planning calls one after the other, and every step with a sentence."""
    left = list(plans)
    return Constrained(lambda prompt: "Ann stays." if "\nTask: " in prompt or "Task: " in prompt[:9] else left.pop(0))


def pearl(model, **settings):
    return Pearl(model, executor=quick(), planner=PromptPlanner(**settings))


@pytest.fixture(scope="module")
def tiny():
    return load_model("tiny")


@pytest.mark.parametrize(
    ("plan", "accepted"),
    [
        (PLAN, True),
        ('s1 = SUMMARY(CTX)\ns2 = COMPARE(CTX, s1, "light")', True),
        ('s1 = LIST_ALL(CTX, "x")\ns2 = COUNT(s1)\ns3 = CONCAT(s2, s1)', True),
        ('s1 = LIST_ALL(CTX, "x")\ns2 = TAKE(s1, "3")', True),
        ('s1 = NOT_IN_TEXT(CTX, ["a", "b"])', True),
        ('s1 = ABOUT(CTX, "a")\ns2 = ABOUT(CTX, "b")\ns3 = ABOUT(CTX, "c")\ns4 = CONCAT(s1, s2, s3)', True),
        ("s1 = WHO_IS(CTX, s1)", False),
        ('s1 = WHO_IS(CTX, "a")\ns2 = WHO_IS(CTX, s3)', False),
        ('s1 = WHO_IS("a")', False),
        ('s1 = WHO_IS(CTX, "a", "b")', False),
        ('s1 = WHO_WAS(CTX, "a")', False),
        ('s2 = WHO_IS(CTX, "a")', False),
        ("s1 = COUNT(CTX)", False),
        ('s1 = COUNT("a")', False),
        ('s1 = TAKE(CTX, "3")', False),
        ('s1 = LIST_ALL(CTX, "x")\ns2 = TAKE(s1, "many")', False),
        ('s1 = ABOUT(CTX, "a")\ns2 = ABOUT(CTX, "b")\ns3 = CONCAT(s1, s1)', False),
        ('s1 = ABOUT(CTX, "a")\ns2 = ABOUT(CTX, "b")\ns3 = RELATION(CTX, s1, s1)', False),
        ('s1 = ABOUT(CTX, "a")\ns2 = CONCAT(s1)', False),
        ('s1 = ABOUT(CTX, "CTX")', False),
        ('s1 = ABOUT(CTX, "s1")', False),
        ('s1 = ABOUT(CTX, " ")', False),
        ('s1 = ABOUT(CTX, "a\nb")', False),
        ('s1 = ABOUT(CTX, "a") : note', False),
        ("\n".join(f's{n} = ABOUT(CTX, "a")' for n in range(1, 6)), False),
        ("The keeper stays because he must.", False),
        ("", False),
    ],
)
def test_what_the_grammar_accepts(plan, accepted):
    grammar = PlanGrammar(tuple(LIBRARY), max_steps=4)
    assert GrammarCheck(grammar.lark).accepts(plan) == accepted
    if accepted:
        read = grammar.read(plan)
        assert grammar.write(read) == plan
        assert [step.out for step in read.steps] == [f"s{n}" for n in range(1, len(read.steps) + 1)]


def test_every_demonstration_of_the_library_can_be_written():
    grammar = PlanGrammar(tuple(LIBRARY))
    check = GrammarCheck(grammar.lark)
    fitting = [each for each in LIBRARY.demonstrations if grammar.fits(each.plan)]
    assert len(fitting) >= 8
    assert all(check.accepts(grammar.write(each.plan)) for each in fitting)


def test_strings_are_parts_of_the_question():
    check = GrammarCheck(PlanGrammar(tuple(LIBRARY), phrases='Why did the "old" keeper stay?').lark)
    for said, accepted in {
        "the 'old' keeper": True, "keeper stay": True, "Why did the 'old' keeper stay": True,
        "the lamp": False, "the kee": False, " the": False, "the ": False, "": False,
    }.items():  # fmt: skip
        assert check.accepts(f's1 = WHO_IS(CTX, "{said}")') == accepted, said
    assert not check.accepts('s1 = NOT_IN_TEXT(CTX, ["keeper", "stay"])')  # the question enumerates nothing
    several = PlanGrammar(tuple(LIBRARY), phrases="Which is not a reason: low pay, long hours, new machines?")
    assert GrammarCheck(several.lark).accepts('s1 = NOT_IN_TEXT(CTX, ["low pay", "new machines"])')


def test_a_plan_may_define_one_action_if_this_is_allowed():
    plan = '- NEW_ACTION(CTX, X) : Say how old X is.\n\ns1 = NEW_ACTION(CTX, "Ann")'
    assert not GrammarCheck(PlanGrammar(tuple(LIBRARY)).lark).accepts(plan)
    grammar = PlanGrammar(tuple(LIBRARY), new_actions=True)
    assert GrammarCheck(grammar.lark).accepts(plan)
    assert GrammarCheck(grammar.lark).accepts(PLAN)
    read = grammar.read(plan)
    assert [action.text for action in read.new_actions] == ["Say how old X is."]
    assert read.steps[0].note == "Say how old Ann is."


def test_limits():
    deep = "s1 = SUMMARY(CTX)\ns2 = ABOUT(CTX, s1)\ns3 = ABOUT(CTX, s2)"
    assert PlanGrammar(tuple(LIBRARY), max_depth=3).read(deep).critical_path == 3
    with pytest.raises(PlanError, match="in turn; the limit is 2"):
        PlanGrammar(tuple(LIBRARY), max_depth=2).read(deep)
    for wrong in ({"max_steps": 0}, {"max_steps": 13}, {"max_depth": 0}):
        with pytest.raises(InvalidInputError):
            PlanGrammar(tuple(LIBRARY), **wrong)
    with pytest.raises(InvalidInputError, match="CTX"):
        PlanGrammar((LIBRARY["COUNT"],)).lark  # noqa: B018 - the grammar is built when it is read


def test_a_library_of_500_actions(tiny):
    forms = itertools.cycle([("CTX",), ("CTX", "X"), ("CTX", "X", "Y"), ("CTX", "LIST", "X"), ("CTX", "X", "...")])
    many = tuple(Action(f"DO_{n}", form, f"Do task {n} with X.") for n, form in zip(range(500), forms, strict=False))
    grammar = PlanGrammar(many, max_steps=8)
    assert len(grammar.lark) < 20_000
    check = GrammarCheck(grammar.lark)
    assert check.accepts('s1 = DO_1(CTX, "x")\ns2 = DO_499(CTX, s1, "a", "b", "c")')
    assert not check.accepts('s1 = DO_500(CTX, "x")')
    # The model sees, and may use, the actions that fit into its prompt.
    plan = pearl(tiny).plan("Why does the keeper do task 77?")
    assert len(plan.steps) >= 1
    big = Pearl(tiny, library=ActionLibrary(many), planner=PromptPlanner(), executor=quick())
    assert big.plan("Why does the keeper do task 77?").steps[0].action.name.startswith("DO_")


@pytest.mark.parametrize(
    "question",
    [
        "Why did the keeper stay?",
        "Pourquoi l'homme a-t-il quitté la maison ?",
        "彼はなぜ家を出たのですか？",
        '\U0001f600 "?',
    ],
)
def test_a_real_model_plans_in_any_language(tiny, question):
    planner = PromptPlanner(max_corrections=1)
    run = Pearl(tiny, planner=planner, executor=quick(max_tokens=8)).invoke(
        question, "Ann kept the light. 彼 La maison."
    )
    assert run.planning.source == "planner"
    assert 1 <= len(run.plan.steps) <= 3


def test_the_planner_constrains_a_model_that_can_be():
    model = constrained(PLAN)
    run = pearl(model).invoke(QUESTION, "a text")
    prompt, sampling = model.calls[0]
    assert (
        sampling.grammar
        == PlanGrammar(tuple(action for action in LIBRARY if action.reads_document), max_steps=3, phrases=QUESTION).lark
    )
    assert isinstance(prompt.chat, Chat)
    assert [message.role for message in prompt.chat.messages[:3]] == ["system", "user", "assistant"]
    assert (run.planning.source, run.calls) == ("planner", 3)
    assert [step.note for step in run.plan.steps] == [
        "Say who or what the keeper is, according to the text.",
        'Explain what "the second silence" means in this text.',
    ]
    free = ScriptedModel(lambda prompt: "x")
    assert pearl(free, max_corrections=0).invoke(QUESTION, "a text").planning.source == "fallback"
    unconstrained = constrained("x", "x", "x")
    pearl(unconstrained, constrain=False, max_corrections=0).invoke(QUESTION, "a text")
    assert unconstrained.calls[0][1].grammar is None


def test_a_repeated_step_is_rejected_once_and_then_removed():
    run = pearl(constrained(TWICE, PLAN)).invoke(QUESTION, "a text")
    assert [step.action.name for step in run.plan.steps] == ["WHO_IS", "MEANING_OF"]
    assert [[each.code for each in found] for _, found in run.planning.rejected] == [["same-call-twice"]]
    again = pearl(constrained(TWICE, TWICE, TWICE)).invoke(QUESTION, "a text")
    assert [step.action.name for step in again.plan.steps] == ["WHO_IS"]
    assert (again.planning.source, again.by_purpose["plan"]) == ("planner", 2)


def test_a_truncated_plan_keeps_its_complete_steps():
    model = constrained(PLAN)
    plan = pearl(model, max_tokens=12).plan(QUESTION)
    assert [step.call for step in plan.steps] == ['WHO_IS(CTX, "the keeper")']
    nothing = pearl(constrained(PLAN, PLAN), max_tokens=2, max_corrections=1).invoke(QUESTION, "a text")
    assert (nothing.planning.source, nothing.status) == ("fallback", "done")
    assert "no step" in nothing.planning.reason


def test_a_real_model_that_cannot_end_its_plan_answers_directly(tiny):
    planner = PromptPlanner(max_tokens=3, max_corrections=1)
    run = Pearl(tiny, planner=planner, executor=quick(max_tokens=4)).invoke("Why did the keeper stay?", "Ann stays.")
    assert run.planning.source == "fallback"
    with pytest.raises(AnswerFormError, match="truncated"):
        tiny.generate("x", grammar=PlanGrammar(tuple(LIBRARY)).lark, max_tokens=3)


def test_a_model_that_repeats_its_prompt_answers_directly():
    for model in (ScriptedModel(lambda prompt: prompt), Constrained(lambda prompt: prompt)):
        run = pearl(model).invoke(QUESTION, "a text")
        assert (run.planning.source, run.status) == ("fallback", "done")


def test_planning_has_a_budget_of_its_own():
    prose = ScriptedModel(lambda _: "This is my opinion about it. " * 4)
    run = pearl(prose, total_tokens=40).invoke(QUESTION, "a text")
    assert run.by_purpose["plan"] == 2  # the second one gets what is left
    assert run.planning.source == "fallback"

    def slow(prompt):
        if prompt.endswith("?\n\n"):
            time.sleep(30)
        return "x"

    started = time.monotonic()
    late = Pearl(ScriptedModel(slow), executor=quick(retries=2), planner=PromptPlanner(seconds=0.2)).invoke("why?", "t")
    assert (late.planning.source, late.by_purpose["plan"]) == ("fallback", 1)
    assert "did not respond within" in late.planning.reason
    assert time.monotonic() - started < 25  # far less than one answer takes
    for wrong in ({"seconds": 0}, {"total_tokens": 0}, {"max_steps": 0}, {"max_depth": 0.5}, {"dangling": "x"}):
        with pytest.raises(InvalidInputError):
            PromptPlanner(**wrong)


def test_a_local_model_respects_the_seconds_of_planning_and_of_the_budget(tiny):
    hopeless = PromptPlanner(seconds=0.01)
    run = Pearl(tiny, planner=hopeless, executor=quick(max_tokens=4)).invoke("Why did the keeper stay?", "Ann stays.")
    assert run.planning.source == "fallback"
    assert "did not respond within" in run.planning.reason
    budget = Budget(seconds=0.3)
    long = Pearl(tiny, executor=quick(max_tokens=1500, retries=0)).invoke("Why?", "Ann stays. " * 20, budget=budget)
    assert long.status in {"failed", "partial", "done"}
    assert tiny.generate("x", max_tokens=1).usage.completion_tokens == 1  # nothing keeps running


def test_lists_are_constrained_to_lines():
    plan = 's1 = LIST_ALL(CTX, "keeper")\ns2 = COUNT(s1)'
    model = Constrained(lambda prompt: "- Ann\n- Bob" if "Task: " in prompt else plan)
    run = pearl(model).invoke("How many a keeper are there?", "Ann and Bob.")
    assert run.text == "2"
    assert model.calls[1][1].grammar == LIST_GRAMMAR
    check = GrammarCheck(LIST_GRAMMAR)
    assert [check.accepts(text) for text in ("None", "- a", "- a\n- b c", "a", "- ", "- a\n", "-- a")] == (
        [True] * 3 + [False] * 4
    )


def test_a_truncated_list_keeps_its_value():
    plan = 's1 = LIST_ALL(CTX, "keeper")\ns2 = COUNT(s1)'
    model = Constrained(lambda prompt: "- Ann\n- Bob\n- " if "Task: " in prompt else plan)
    done = Pearl(model, executor=quick(max_tokens=3)).invoke("How many a keeper are there?", "Ann and Bob.")
    assert done.values["s2"] == "2"
    assert "truncated at 3 tokens" in done.reasons[0]


def test_the_progress_names_the_step_and_its_instruction(monkeypatch):
    shown = []

    def recording(description, total):
        shown.append((description, total))
        return original(description, total)

    original = executor.progress
    monkeypatch.setattr(executor, "progress", recording)
    monkeypatch.setattr(answering, "progress", recording)
    pearl(constrained('s1 = WHO_IS(CTX, "the keeper")\ns2 = REASON_FOR(CTX, s1, "stay")')).invoke(QUESTION, "a text")
    assert [description for description, _ in shown] == [
        "planning",
        "step 1 of 2: Say who or what the keeper is, according to the text.",
        "step 2 of 2: Explain why the keeper does or wants this: stay.",
    ]
