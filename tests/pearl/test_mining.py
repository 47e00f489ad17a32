"""Mining actions, and refining demonstrations."""

import pytest
from recorded_pearl import GOOD, CountingModel, is_planning, quick

from ragkit.errors import InvalidInputError
from ragkit_pipelines.pearl.mine.mining import mine
from ragkit_pipelines.pearl.mine.refinement import Checked, refine
from ragkit_pipelines.pearl.pipeline import Pearl
from ragkit_pipelines.pearl.plan.library import ActionLibrary
from ragkit_pipelines.pearl.run.trace import Trace


def test_refinement_keeps_plans_with_correct_answers():
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


def test_mining_merges_by_spelling_and_then_by_the_model():
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


def test_mining_resumes_from_its_trace(tmp_path):
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


def test_an_invalid_merge_response_loses_no_action():
    for reply in ("", "NAME(CTX) # x <=", "FIND(CTX, X) # Find. <= FIND, FIND", "\0<=\n" * 50):
        model = CountingModel(lambda prompt, reply=reply: reply if prompt.endswith("Groups:\n") else mined_plan(prompt))
        found = mine(model, [f"q{n}?" for n in range(6)], SEEDS, min_uses=1, executor=quick(retries=0))
        assert {action.name for action in found.library} == {"FIND", "FEELING_OF", "EMOTION", "SMELL", "CONCAT"}
    with pytest.raises(InvalidInputError, match="question"):
        mine(model, [])
    with pytest.raises(InvalidInputError, match="questions"):
        mine(model, "one")
