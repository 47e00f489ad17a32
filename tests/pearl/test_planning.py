"""Making plans: correction, fallback, routing, refinement, mining; and reading options."""

import json
from dataclasses import replace
from random import Random

import pytest
from pearl.replay import THREE, CountingModel, by_step, plan, quick, recorded

from ragkit.errors import DataFileError, InvalidInputError, PlanError, UnknownSpecError
from ragkit.models.budget import Budget
from ragkit.models.scripted import ScriptedModel
from ragkit.options import read_option
from ragkit_pipelines.pearl.mine.mining import mine
from ragkit_pipelines.pearl.mine.refine import Checked, refine
from ragkit_pipelines.pearl.pipeline import Pearl
from ragkit_pipelines.pearl.plan.library import ActionLibrary, Demonstration
from ragkit_pipelines.pearl.plan.planner import PromptPlanner, ZeroShot
from ragkit_pipelines.pearl.router import Labelled, Router
from ragkit_pipelines.pearl.run.option_mapper import OptionMapper
from ragkit_pipelines.pearl.run.trace import Trace

GOOD = 'New actions:\n- None\n\n1. a = ABOUT(CTX, "a") : Step A\n2. b = RELATION(CTX, a, "b") : Step B'
WRONG = GOOD.replace("ABOUT(", "ABOUTT(")


def is_planning(prompt):
    return prompt.endswith(("?\n\n", "put right:\n\n"))


def by_turns(*texts):
    """Answers the planning calls one after the other, the steps by name."""
    left = list(texts)
    return lambda prompt: left.pop(0) if is_planning(prompt) else by_step(prompt)


def test_a_rejected_plan_goes_back_with_its_place_and_the_way_out():
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


def test_no_plan_is_answered_directly_with_the_reason():
    model = CountingModel(lambda prompt: "I cannot." if is_planning(prompt) else "direct answer")
    run = Pearl(model, executor=quick(), planner=PromptPlanner(max_corrections=2)).invoke("why?", "text")
    assert (run.text, run.status, run.planning.source) == ("direct answer", "done", "fallback")
    assert run.planning.reason.startswith("2 plans were rejected")
    assert run.by_purpose == {"plan": 2, "step": 1}  # the same words are not asked a third time
    assert run.plan == ZeroShot().plan()
    none = Pearl(model, executor=quick(), fallback=None).invoke("why?", "text")
    assert (none.status, none.answer, none.plan) == ("failed", "", None)
    assert "plans were rejected" in none.reasons[0]
    with pytest.raises(PlanError):
        Pearl(model, executor=quick()).plan("why?")


def test_corrections_are_bounded():
    count = iter(range(100))
    model = CountingModel(lambda prompt: f"plan {next(count)}" if is_planning(prompt) else "direct answer")
    run = Pearl(model, executor=quick(), planner=PromptPlanner(max_corrections=5)).invoke("why?", "text")
    assert run.by_purpose == {"plan": 6, "step": 1}
    assert [text for text, _ in run.planning.rejected] == [f"plan {n}" for n in range(6)]


@pytest.mark.parametrize("reply", ["", "\0", "x" * 20_000, '__import__("os").system("ls")', GOOD + "\nThis = it."])
def test_whatever_the_planner_says_there_is_an_end(reply):
    model = CountingModel(lambda prompt: reply if is_planning(prompt) else "direct answer")
    run = Pearl(model, executor=quick(retries=0)).invoke("why?", "text")
    assert (run.text, run.planning.source) == ("direct answer", "fallback")
    assert run.by_purpose["plan"] <= 4


def test_a_budget_that_is_spent_on_planning_says_so():
    model = CountingModel(lambda _: "no plan")
    run = Pearl(model, executor=quick()).invoke("why?", "text", budget=Budget(calls=1))
    assert run.status == "failed"
    assert len(model.asked) == 1
    assert "the budget is 1" in run.planning.reason + run.reasons[0]


def test_repairs_are_asked_for_and_listed():
    slip = GOOD.replace("1. a", "1) a")
    strict = Pearl(CountingModel(by_turns(slip, GOOD)), executor=quick()).invoke("why?", "text")
    assert len(strict.planning.rejected) == 1
    mended = Pearl(CountingModel(by_turns(slip)), executor=quick(), planner=PromptPlanner(repair=True)).invoke(
        "why?", "t"
    )
    assert not mended.planning.rejected
    assert [each.code for each in mended.plan.diagnostics if each.level == "repair"] == ["number-sign"]


def test_loose_values_are_pruned_or_kept():
    loose = GOOD + '\n3. ans = CONCAT(b) : Step C\n4. x = ABOUT(CTX, "x") : Step D\n5. end = CONCAT(ans) : Step E'
    for dangling, outs in (("prune", ["a", "b"]), ("keep", ["a", "b", "x", "end"])):
        pearl = Pearl(ScriptedModel(lambda _: loose), planner=PromptPlanner(dangling=dangling))
        assert [step.out for step in pearl.plan("why?").steps] == outs
    with pytest.raises(InvalidInputError, match="dangling"):
        PromptPlanner(dangling="all")
    with pytest.raises(InvalidInputError, match="max_corrections"):
        PromptPlanner(max_corrections=-1)


def test_the_prompt_shows_actions_and_demonstrations_first():
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
    prefix = PromptPlanner().prefix(pearl.parts.library)
    assert model.asked[0] == prefix
    assert sum(text == prefix for text in model.asked) == 1


# options


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("A", 0), ("b", 1), ("C.", 2), ("(D)", 3), ("**B**", 1), (" A)\n", 0), ('"C"', 2),
        ("The answer is A", 0), ("the answer is (b)", 1), ("Answer: C", 2), ("Option D.", 3), ("B. a man", 1),
        ("(B) the answer is B", 1), ("My choice is C, as it fits.", 2), ("D: because it rains", 3),
        ("The man", None), ("A man in the sea", None), ("T", None), ("E", None), ("none", None), ("", None),
        ("A or B", None), ("The answer is A. No, the answer is B.", None), ("Because A is wrong", None),
        ("a man", 0), ("It is a man.", 0), ("a ship", 1), ("both a man and a ship", None), ("human", None),
        ("I think", None),
    ],
)  # fmt: skip
def test_options_are_read_or_not_at_all(text, place):
    assert read_option(text, ["a man", "a ship", "the sea", "rain"]).place == place


def test_recorded_letters_are_read(data):
    rows = [json.loads(line) for line in (data / "pearl/plans.jsonl").read_text().splitlines()]
    for row in rows:
        read = read_option(row["map_answer"], ["w", "x", "y", "z"]).letter
        assert read == (row["map_answer"] if row["map_answer"] in "ABCD" else None)


def test_answers_that_come_to_no_option_are_counted():
    model = ScriptedModel(["B", "The first one, I think.", "C. the sea\nbecause"])
    mapper = OptionMapper(model)
    options = ["a man", "a ship", "the sea", "rain"]
    choices = mapper.map_many([(f"answer {n}", "what?", options) for n in range(3)] + [(" ", "what?", options)])
    assert [choice.letter for choice in choices] == ["B", None, "C", None]
    assert (mapper.mapped, mapper.unmapped) == (2, 2)
    assert len(model.asked) == 3
    assert "A. a man\nB. a ship\n" in model.asked[0]
    with pytest.raises(InvalidInputError):
        read_option("A", [])


def test_a_recorded_answer_goes_to_its_option(data):
    each = recorded(data)[0]
    mapper = OptionMapper(ScriptedModel([each.mapped]))
    assert mapper.map(each.answer, each.question, each.options).letter == each.mapped


# the router


def rows_where_counting_loses(count, rng, plans=False):
    rows = []
    for n in range(count):
        counts = rng.random() < 0.5
        question = f"How many {n} are there?" if counts else f"Why does {n} leave?"
        better = rng.random() < 0.9
        planned, direct = (0.0, 1.0) if counts == better else (1.0, 0.0)
        rows.append(Labelled(question=question, planned=planned, direct=direct, plan=THREE if plans else None))
    return rows


def test_a_router_learns_what_is_there_to_learn():
    router = Router.fit(rows_where_counting_loses(200, Random(0)))
    report = router.report
    assert router.route("How many letters does he write?").strategy == "direct"
    assert router.route("Why does she write?").strategy == "plan"
    assert report.routed > 0.85 > 0.6 > max(report.planned, report.direct)
    assert report.oracle == 1.0
    assert report.helps
    with_plans = Router.fit(rows_where_counting_loses(200, Random(1), plans=True))
    assert with_plans.reads_plan
    with pytest.raises(InvalidInputError):
        with_plans.route("why?")


def test_a_router_that_learns_nothing_does_not_claim_to():
    rng = Random(0)
    for seed in range(5):
        rows = [
            Labelled(question=rng.choice(["why?", "who?", "how many?"]), planned=float(rng.random() < 0.6),
                     direct=float(rng.random() < 0.6))
            for _ in range(120)
        ]  # fmt: skip
        assert not Router.fit(rows, seed=seed).report.helps


def test_a_router_needs_enough_to_learn_from(tmp_path):
    with pytest.raises(InvalidInputError):
        Router.fit(rows_where_counting_loses(10, Random(0)))
    one_sided = [replace(row, planned=1.0, direct=0.0) for row in rows_where_counting_loses(40, Random(0))]
    with pytest.raises(InvalidInputError):
        Router.fit(one_sided)
    router = Router.fit(rows_where_counting_loses(60, Random(0)))
    router.save(tmp_path / "router.json")
    assert replace(Router.load(tmp_path / "router.json"), report=router.report) == router
    (tmp_path / "bad.json").write_text("{}")
    for path in ("bad.json", "none.json"):
        with pytest.raises(DataFileError):
            Router.load(tmp_path / path)


def test_a_routed_question_saves_the_plan():
    router = Router.fit(rows_where_counting_loses(200, Random(0)))
    model = CountingModel(lambda prompt: GOOD if is_planning(prompt) else "x")
    pearl = Pearl(model, executor=quick(), router=router)
    direct = pearl.invoke("How many ships are there?", "text")
    assert (direct.planning.source, direct.by_purpose) == ("router", {"step": 1})
    assert "probability of 0." in direct.planning.reason
    assert pearl.invoke("Why does she write?", "text").planning.source == "planner"
    reading = Router(weights={"depth": -10.0}, bias=1.0, reads_plan=True)
    run = Pearl(model, executor=quick(), router=reading).invoke("why?", "text")
    assert (run.planning.source, run.by_purpose) == ("router", {"plan": 1, "step": 1})


# refinement and mining


def test_refinement_keeps_the_plans_whose_answers_are_right():
    better = GOOD.replace('"b"', '"better"')

    def answer(prompt):
        if is_planning(prompt):
            asked = prompt.split("Question: ")[-1]
            return "no plan" if asked.startswith("never") else better if "led to a wrong answer" in asked else GOOD
        return "right" if "better" in prompt or "easy" in prompt else "wrong"

    model = CountingModel(answer)
    rows = [Checked("easy one?", "an easy text", "right"), Checked("hard one?", "text", "right"),
            Checked("impossible?", "text", "other"), Checked("never?", "text", "right")]  # fmt: skip
    checked = []

    def check(run, row):
        checked.append(run)
        return run.text == row.expected

    found = refine(Pearl(model, executor=quick()), rows, check=check, tries=3)
    assert len({id(run) for run in checked}) == len(checked)  # a check may be a call of a model
    assert [each.question for each in found.demonstrations] == ["easy one?", "hard one?"]
    assert found.demonstrations[1].plan.render() == better
    assert [question for question, _ in found.failed] == ["impossible?", "never?"]
    shown = [prompt for prompt in model.asked if "led to a wrong answer: wrong" in prompt]
    assert all(f"<plan>\n{GOOD}\n</plan>" in prompt or f"<plan>\n{better}\n</plan>" in prompt for prompt in shown)
    assert found.tries == 1 + 2 + 2 + 1
    with pytest.raises(InvalidInputError, match="tries"):
        refine(Pearl(model), rows, check=lambda *_: True, tries=0)


SEEDS = ActionLibrary.from_text("FIND(CTX, X) # Find X.\nCONCAT(S1, S2, ...) # Join texts.")


def mined_plan(prompt):
    name, text = {
        "0": ("FEELING_OF(CTX, X)", "Say what X feels."),
        "1": ("FEELINGS_OF_X(CTX, X)", "Give the feelings of X."),
        "2": ("FEELING_OF(CTX, X)", "Say what X feels."),
        "3": ("EMOTION(CTX, X)", "Say which emotion X has."),
        "4": ("EMOTION(CTX, X)", "Say which emotion X has."),
        "5": ("SMELL(CTX, X)", "Say how X smells."),
    }[prompt.split("Question: q")[-1][0]]
    called = name.split("(")[0]
    return f'New actions:\n- {name} : {text}\n\n1. a = {called}(CTX, "x") : A\n2. b = FIND(CTX, a) : B'


def test_mining_merges_by_spelling_first_and_the_model_second():
    def answer(prompt):
        if prompt.endswith("Groups:\n"):
            return (
                "Some words.\nFEELS(CTX, X) # Say what X feels. <= FEELING_OF, EMOTION\n"
                "FEELS(CTX) # Again. <= FEELING_OF, SMELL\nALL(CTX) # All. <= FIND, UNKNOWN\nbroken <= FIND, SMELL"
            )
        return "garbage" if "Question: q6" in prompt else mined_plan(prompt)

    questions = [f"q{n}?" for n in range(7)]
    model = CountingModel(answer)
    found = mine(model, questions, SEEDS, executor=quick(concurrency=3))
    assert {action.name: action.uses for action in found.library} == {"FIND": 6, "FEELS": 5, "CONCAT": 0}
    assert [action.name for action in found.library] == ["FIND", "FEELS", "CONCAT"]
    assert found.merged == {"FEELINGS_OF_X": "FEELS", "FEELING_OF": "FEELS", "EMOTION": "FEELS"}
    assert found.pruned == ("SMELL",)
    assert found.plans == 6
    assert [question for question, _ in found.rejected] == ["q6?"]
    assert ActionLibrary.from_json(found.library.to_json()) == found.library
    by_spelling = mine(model, questions, SEEDS, rounds=0, min_uses=1, executor=quick())
    assert {action.name: action.uses for action in by_spelling.library} == {
        "FIND": 6, "FEELING_OF": 3, "EMOTION": 2, "SMELL": 1, "CONCAT": 0,
    }  # fmt: skip
    assert by_spelling.library["FEELING_OF"].text == "Say what X feels."


def test_mining_goes_on_from_its_trace(tmp_path):
    questions = [f"q{n}?" for n in range(6)]
    with Trace(tmp_path / "mining.jsonl") as trace:
        first = CountingModel(mined_plan)
        found = mine(first, questions[:4], SEEDS, rounds=0, min_uses=1, executor=quick(), trace=trace)
        more = CountingModel(mined_plan)
        again = mine(more, questions, SEEDS, rounds=0, min_uses=1, executor=quick(), trace=trace)
    steps = [prompt for prompt in more.asked if prompt.endswith("?\n\n")]
    assert [prompt.split("Question: ")[-1] for prompt in sorted(steps)] == ["q4?\n\n", "q5?\n\n"]
    assert found.plans == 4
    assert again.plans == 6


def test_mining_loses_nothing_to_a_useless_reply():
    for reply in ("", "NAME(CTX) # x <=", "FIND(CTX, X) # Find. <= FIND, FIND", "\0<=\n" * 50):
        model = CountingModel(lambda prompt, reply=reply: reply if prompt.endswith("Groups:\n") else mined_plan(prompt))
        found = mine(model, [f"q{n}?" for n in range(6)], SEEDS, min_uses=1, executor=quick(retries=0))
        assert {action.name for action in found.library} == {"FIND", "FEELING_OF", "EMOTION", "SMELL", "CONCAT"}
    with pytest.raises(InvalidInputError, match="question"):
        mine(model, [])
    with pytest.raises(InvalidInputError, match="questions"):
        mine(model, "one")


# explaining


def test_explanations_show_status_cost_and_what_was_read():
    def answer(prompt):
        return "" if "Step B\n" in prompt else f"<script>{by_step(prompt)}</script>"

    run = Pearl(CountingModel(answer), executor=quick(retries=0)).invoke('a "question"?', "text", plan=THREE)
    text = run.explain()
    assert "partial: 4 calls" in text
    assert "! b: the model returned an empty response" in text
    assert '3. c = COMPARE(CTX, a, "c") : Step C\n   reads a\n   reads the document\n' in text
    assert "   skipped: needs the value of b, which failed" in text
    graph = run.explain("mermaid")
    assert graph.startswith("flowchart TD\n")
    assert "  s1 --> s3" in graph
    assert ":::failed" in graph
    assert "<script>" not in graph
    page = run.explain("html")
    assert "<script>" not in page
    assert "&lt;script&gt;value of A&lt;/script&gt;" in page
    assert 'class="skipped"' in page
    with pytest.raises(UnknownSpecError, match="html"):
        run.explain("htm")
    none = Pearl(CountingModel(lambda _: "x"), executor=quick(), fallback=None).invoke("?", "text")
    assert all(none.explain(form) for form in ("text", "html", "mermaid"))


def test_a_drawing_cannot_be_changed_by_a_text():
    sly = plan('1. a = ABOUT(CTX, "x\\"]; click a evil --> b[#quot;") : Step A')
    line = next(line for line in sly.mermaid().splitlines() if line.startswith("  s1["))
    assert line.count('"') == 2
    assert "]" not in line[:-1]
    assert "--&gt;" not in line
    assert "-->" not in line
