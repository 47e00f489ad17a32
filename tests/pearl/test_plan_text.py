"""Plans as text: published plans, common mistakes, hostile text, and round trips of generated plans."""

import ast
import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plan_slips import REJECTED, REPAIRED, SLIPS

from ragkit.errors import PlanError
from ragkit_pipelines.pearl.plan.action import Action
from ragkit_pipelines.pearl.plan.library import ActionLibrary
from ragkit_pipelines.pearl.plan.plan import Ctx, Limits, Plan, Step, Text, TextList, Variable

LIBRARY = ActionLibrary.from_text(
    "FIND(CTX, X) # Find X.\nLINK(CTX, X, Y) # Link X and Y.\nPICK(CTX, LIST) # Pick one.\nALL(CTX) # Tell all.\n"
    "CONCAT(S1, S2, ...) # Join texts.\nCOUNT(LIST) # Count items."
)
GOOD = (
    "New actions:\n- None\n\n"
    '1. ship = FIND(CTX, "the ship") : Find the ship\n'
    '2. crew = FIND(CTX, "the crew") : Find the crew\n'
    "3. both = LINK(CTX, ship, crew) : Link them\n"
    "4. ans = CONCAT(ship, both) : Combine"
)


def test_printing_a_plan_shows_its_text():
    assert str(Plan.parse(GOOD, LIBRARY)) == GOOD


def codes(text, *, repair=False, library=LIBRARY, level="error"):
    try:
        found = Plan.parse(text, library, repair=repair).diagnostics
    except PlanError as error:
        found = error.diagnostics
    return [each.code for each in found if each.level == level]


@pytest.fixture(scope="module")
def published(data):
    library = ActionLibrary.from_text((data / "pearl/actions.txt").read_text())
    texts = [json.loads(line)["plan"] for line in (data / "pearl/plans.jsonl").read_text().splitlines()]
    texts += [json.loads(line)["plan"] for line in (data / "pearl/replay.jsonl").read_text().splitlines()]
    return library, texts


def test_published_plans_round_trip(published):
    library, texts = published
    assert len(library) == 81
    assert [(each.code, each.line) for each in library.diagnostics] == [("cut-definition", 71)]
    changed = [text for text in texts if Plan.parse(text, library).render() != text]
    # Two write "NAME(…): text" without the space; nothing else changes.
    assert [text.replace("): ", ") : ") for text in changed] == [Plan.parse(t, library).render() for t in changed]
    assert (len(texts), len(changed)) == (330, 2)


def test_published_plans_have_the_recorded_steps_and_waves(data, published):
    library, _ = published
    kinds = {Ctx: "doc", Variable: "ref", Text: "lit"}
    for line in (data / "pearl/replay.jsonl").read_text().splitlines():
        row = json.loads(line)
        plan = Plan.parse(row["plan"], library)
        number = {step.out: place for place, step in enumerate(plan.steps, 1)}
        for step, recorded in zip(plan.steps, row["steps"], strict=True):
            assert (step.out, step.action.name, step.note) == (recorded["out"], recorded["action"], recorded["note"])
            values = [(kinds[type(a)], getattr(a, "value", getattr(a, "name", None))) for a in step.arguments]
            assert values == [(a["kind"], a["value"]) for a in recorded["args"]]
            assert [number[name] for name in step.reads] == recorded["deps"]
        assert [(a.name, list(a.parameters), a.text) for a in plan.new_actions] == [
            (a["name"], a["params"], a["doc"]) for a in row["new_actions"]
        ]


LEAKED = (
    "COUNT_X(CTX, X) # Count X.\nSORT(CTX, X) # Sort X.\nFIND_ALL_ISSUES(CTX) # Find issues.\n"
    "EVALUATE_PROBABILITY(CTX, X) # Judge how likely X is."
)


def test_an_action_defined_only_by_another_plan_is_unknown(data, published):
    library, _ = published
    text = GOOD.replace("FIND(", "FIND_ELEMENT(").replace('the crew"', 'the crew", "all"').replace(
        'the ship"', 'the ship", "all"'
    ).replace("LINK(CTX, ship, crew)", "COUNT_X(CTX, crew)")  # fmt: skip
    assert codes(text, library=library) == ["unknown-action"]
    more = ActionLibrary.from_text((data / "pearl/actions.txt").read_text().rstrip("\n") + "\n" + LEAKED)
    plan = Plan.parse(text, more)
    assert plan["both"].action.name == "COUNT_X"
    assert plan.critical_path == 2  # COUNT_X and SORT with a document are a model's work
    assert library is not more
    assert "COUNT_X" not in library


@pytest.mark.parametrize("name", SLIPS)
def test_no_mistake_is_misinterpreted(name, published):
    assert len(SLIPS) == 29
    slip, strictly, repaired = SLIPS[name]
    library, texts = published
    tried = 0
    for plan in (Plan.parse(text, library) for text in texts):
        made = slip(plan)
        if made is None:
            continue
        tried += 1
        text, meant = made
        for repair, expected in ((False, strictly), (True, repaired)):
            try:
                read = Plan.parse(text, library, repair=repair)
            except PlanError as error:
                wrong = [each for each in error.diagnostics if each.level == "error"]
                assert expected == REJECTED or plan.new_actions, text
                assert all(each.code and each.message for each in wrong)
                continue
            assert expected != REJECTED, text
            assert read == meant, text
            assert any(each.level == "repair" for each in read.diagnostics) == (expected == REPAIRED)
            if name == "variable's name in quotes":
                assert "quoted-variable" in [each.code for each in read.diagnostics]
    assert tried > 20


@pytest.mark.parametrize(
    ("old", "new", "code", "place"),
    [
        ('FIND(CTX, "the crew")', "FIND(CTX, 'the crew')", "single-quotes", (5, 21)),
        ('FIND(CTX, "the crew")', "FIND(CTX, the crew)", "unquoted-text", (5, 25)),
        ('FIND(CTX, "the crew")', 'FIND(CTX, "the crew" + "x")', "unquoted-text", (5, 32)),
        ('FIND(CTX, "the crew")', 'FIND(CTX, "the crew', "open-text", (5, 21)),
        ('FIND(CTX, "the crew")', 'FIND(CTX, "the \\q crew")', "open-text", (5, 21)),
        ('FIND(CTX, "the crew")', 'FIND("the crew", CTX)', "document-place", (5, 16)),
        ('FIND(CTX, "the crew")', "FIND(CTX, CTX)", "document-place", (5, 21)),
        ('FIND(CTX, "the crew")', 'FIND(CTX, ["the crew"])', "list-argument", (5, 21)),
        ('FIND(CTX, "the crew")', "FIND(CTX, crew)", "self-use", (5, 21)),
        ('FIND(CTX, "the crew")', "FIND(CTX, both)", "used-before-made", (5, 21)),
        ('FIND(CTX, "the crew")', "FIND(CTX, ships)", "undefined-variable", (5, 21)),
        ('FIND(CTX, "the crew")', "FIND(CTX, )", "no-value", (5, 21)),
        ('FIND(CTX, "the crew")', "FIND(CTX)", "arity", (5, 4)),
        ('FIND(CTX, "the crew")', 'FINDE(CTX, "the crew")', "unknown-action", (5, 11)),
        ('FIND(CTX, "the crew")', '__import__("os").system("ls")', "unknown-action", (5, 11)),
        ('FIND(CTX, "the crew")', 'FIND(CTX, Y="the crew")', "keyword", (5, 21)),
        ("3. both", "4. both", "wrong-number", (6, 1)),
        ("3. both", "3. crew", "made-twice", (6, 4)),
        ("3. both =", "3. both", "not-a-step", (6, 9)),
        ("3. both", "3. CTX", "variable-name", (6, 4)),
        ("- None", "- WHAT CTX", "action-definition", (2, 8)),
        ("- None", "- what(CTX) : Tell.", "action-name", (2, 3)),
        ("- None", "- WHAT(CTX, CTX) : Tell.", "parameters", (2, 3)),
        ("- None", "- WHAT(CTX) :", "action-text", (2, 3)),
        ("- None", "- FIND(X) : Find.", "hides-action", (2, 3)),
    ],
)
def test_mistakes_are_reported_with_their_positions(old, new, code, place):
    with pytest.raises(PlanError) as caught:
        Plan.parse(GOOD.replace(old, new, 1), LIBRARY)
    found = [(each.code, (each.line, each.column)) for each in caught.value.diagnostics if each.level == "error"]
    assert (code, place) in found
    assert str(place[0]) in str(caught.value)


def test_an_unknown_action_is_reported_with_a_suggestion():
    with pytest.raises(PlanError, match=r"did you mean FIND\?.*define it under 'New actions:'"):
        Plan.parse(GOOD.replace("FIND(", "FINDE(", 1), LIBRARY)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n\t\n",
        "```\n```",
        "New actions:",
        "New actions:\n- None\n",
        '__import__("os").system("rm -rf /")',
        "x" * 20_000,
        "\n".join(["New actions:", "- None", *(f'{n}. a{n} = FIND(CTX, "x") : y' for n in range(1, 60))]),
        GOOD.replace("the crew", "the\0crew"),
        GOOD.replace('"the crew")', '"the crew\\'),
        GOOD.replace('"the crew"', "FIND(CTX, " * 500 + '"x"' + ")" * 500),
        GOOD.replace('"the crew"', "[" * 500 + '"x"' + "]" * 500),
        GOOD.replace("the crew", "c" * 601),
        GOOD.replace('"the crew"', ", ".join(['"x"'] * 400)),
        GOOD.replace("2. crew", f"{'9' * 5000}. crew"),
        GOOD.replace("\n", "\r"),
        GOOD.replace("\n", "\u2028"),
    ],
)
@pytest.mark.parametrize("repair", [False, True])
def test_hostile_text_is_rejected(text, repair):
    with pytest.raises(PlanError) as caught:
        Plan.parse(text, LIBRARY, repair=repair)
    assert len(str(caught.value)) < 4000


def test_limits_can_be_set():
    assert codes(GOOD) == []
    for limits, code in ((Limits(steps=3), "too-many-steps"), (Limits(characters=40), "too-long")):
        with pytest.raises(PlanError) as caught:
            Plan.parse(GOOD, LIBRARY, limits=limits)
        assert [each.code for each in caught.value.diagnostics] == [code]


def test_a_plans_own_actions_stay_with_it():
    own = GOOD.replace("- None", "- TEMPER(CTX, X) : Describe the temper of X.").replace(
        "LINK(CTX, ship, crew)", "TEMPER(CTX, crew)"
    )
    plan = Plan.parse(own, LIBRARY)
    assert [action.name for action in plan.new_actions] == ["TEMPER"]
    assert "TEMPER" not in LIBRARY
    assert codes(GOOD.replace("LINK(CTX, ship, crew)", "TEMPER(CTX, crew)")) == ["unknown-action"]
    assert Plan.parse(plan.render(), LIBRARY) == plan


def test_all_repairs_are_listed():
    slips = GOOD.replace('"the crew"', "“the crew”").replace("3. both", "3) both").replace(" : Combine", "")
    plan = Plan.parse("```\n" + slips + "\n```", LIBRARY, repair=True)
    listed = [each.code for each in plan.diagnostics if each.level == "repair"]
    assert listed == ["code-fence", "curly-quotes", "number-sign", "no-note", "code-fence"]
    assert plan["crew"].arguments[1] == Text("the crew")
    assert plan["ans"].note == "Join texts."


def test_a_keyword_of_another_parameter_is_not_repaired():
    swapped = GOOD.replace("LINK(CTX, ship, crew)", "LINK(CTX, Y=ship, X=crew)")
    assert "keyword" in codes(swapped, repair=True)
    kept = Plan.parse(GOOD.replace("LINK(CTX, ship, crew)", "LINK(CTX, X=ship, Y=crew)"), LIBRARY, repair=True)
    assert kept == Plan.parse(GOOD, LIBRARY)


def test_lists_are_accepted_only_for_list_parameters():
    plan = Plan.parse(GOOD.replace("LINK(CTX, ship, crew)", 'PICK(CTX, ["a, b", crew])'), LIBRARY)
    assert plan["both"].arguments[1] == TextList((Text("a, b"), Variable("crew")))
    assert plan["both"].reads == ("crew",)
    assert Plan.parse(plan.render(), LIBRARY) == plan == Plan.from_json(plan.to_json())


names = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True)
texts = st.text(
    st.characters(blacklist_categories=("Cs",)).filter(lambda c: c.isprintable() or c in "\n\t\r"), max_size=40
)
notes = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=40).filter(
    lambda t: t.strip() == t and t
)


@st.composite
def plans(draw):
    steps, made = [], []
    for name in draw(st.lists(names, min_size=1, max_size=6, unique=True)):
        value = (
            st.builds(Text, texts) if not made else st.builds(Text, texts) | st.builds(Variable, st.sampled_from(made))
        )
        action = draw(st.sampled_from(list(LIBRARY)))
        if action.variadic:
            arguments = draw(st.lists(value, min_size=1, max_size=4))
        else:
            lists = st.builds(TextList, st.lists(value, min_size=1, max_size=3).map(tuple))
            kinds = {"CTX": st.just(Ctx()), "LIST": value | lists}
            arguments = [draw(kinds.get(parameter, value)) for parameter in action.parameters]
        steps.append(Step(name, action, tuple(arguments), draw(notes)))
        made.append(name)
    return Plan(tuple(steps))


@given(plans())
@settings(max_examples=200, deadline=None)
def test_text_and_json_round_trip(plan):
    assert Plan.parse(plan.render(), LIBRARY) == plan
    assert Plan.from_json(plan.to_json()) == plan
    assert Plan.from_json(plan.to_json()).fingerprint == plan.fingerprint


@given(st.text(max_size=300) | st.text(alphabet='"\\()[],.:=- \nCTX1aF“‘`', max_size=120))
@settings(max_examples=400, deadline=None)
def test_any_text_is_parsed_or_rejected(text):
    for repair in (False, True):
        for whole in (text, GOOD.replace('"the crew"', text), GOOD + "\n" + text, "New actions:\n" + text):
            with contextlib.suppress(PlanError):  # and nothing else
                plan = Plan.parse(whole, LIBRARY, repair=repair)
                assert Plan.parse(plan.render(), LIBRARY) == plan


def test_a_plan_built_in_code_is_validated():
    find = LIBRARY["FIND"]
    for steps, code in (
        ((Step("x", find, (Ctx(), Variable("y")), "Find"),), "undefined-variable"),
        ((Step("x y", find, (Ctx(), Text("y")), "Find"),), "variable-name"),
        ((Step("x", find, (Ctx(), Text("y")), "Find\nit"),), "note"),
        ((Step("x", find, (Ctx(), Text("a\0b")), "Find"),), "control-character"),
        ((), "no-steps"),
    ):
        with pytest.raises(PlanError) as caught:
            Plan(steps)
        assert [each.code for each in caught.value.diagnostics] == [code]


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"version": 2}', "\0", '{"actions": [], "new_actions": ["A"], "steps": []}']
)
def test_json_that_is_not_a_plan_is_refused(text):
    with pytest.raises(ValueError, match="JSON"):
        Plan.from_json(text)


def test_waves_depths_and_readers():
    plan = Plan.parse(GOOD, LIBRARY)
    assert [[step.out for step in wave] for wave in plan.waves] == [["ship", "crew"], ["both", "ans"]]
    assert (plan.critical_path, [step.out for step in plan.sinks]) == (2, ["ans"])
    assert plan.readers_of("ship") == {"both", "ans"}
    assert plan.readers_of("ans") == frozenset()


def test_the_default_library_is_complete():
    library = ActionLibrary.default()
    assert len(library) >= 30
    assert len(library.demonstrations) == 10
    assert not library.diagnostics
    for each in library.demonstrations:
        assert not each.plan.diagnostics
        assert Plan.parse(each.plan.render(), library) == each.plan
    assert ActionLibrary.from_text(library.to_text()).actions == library.actions
    assert ActionLibrary.from_json(library.to_json()) == library


def test_uses_are_counted_and_rare_actions_left_out(published):
    library, texts = published
    counted = library.counted(Plan.parse(text, library) for text in texts[:300])
    top = sorted(counted, key=lambda action: -action.uses)[:3]
    assert {action.name for action in top} == {"CONCAT", "FIND_ELEMENT", "IDENTIFY_ELEMENT"}
    assert sum(action.uses for action in counted) + 5 == sum(
        len(Plan.parse(text, library).steps) for text in texts[:300]
    )
    small = counted.subset(3)
    assert 3 < len(small) < 60
    assert all(action.uses >= 3 for action in small)
    assert ActionLibrary.from_json(small.to_json())["CONCAT"].uses == small["CONCAT"].uses
    with pytest.raises(ValueError, match="min_uses"):
        counted.subset(100_000)
    default = ActionLibrary.default()
    few = default.counted([default.demonstrations[0].plan]).subset()
    assert [each.question for each in few.demonstrations] == [default.demonstrations[0].question]


@pytest.mark.parametrize(
    "text", ["", "# only a comment", "FIND CTX", "find(CTX) # Find.", "FIND() # Find.", "A(CTX) # A.\nA(CTX) # B."]
)
def test_invalid_lists_of_actions_are_refused(text):
    with pytest.raises(PlanError):
        ActionLibrary.from_text(text)


def test_actions_are_validated():
    with pytest.raises(PlanError, match="action-text"):
        Action("FIND", ("CTX",), "two\nlines")
    with pytest.raises(PlanError, match="parameters"):
        Action("FIND", ("...", "CTX"), "Find.")


def test_nothing_is_ever_run_as_code():
    forbidden = {"eval", "exec", "compile", "__import__", "pickle", "marshal", "literal_eval"}
    files = sorted((Path(__file__).parents[2] / "pipelines/ragkit_pipelines/pearl").rglob("*.py"))
    assert len(files) > 20
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            called = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
            imported = {name.name for name in node.names} if isinstance(node, ast.Import | ast.ImportFrom) else set()
            assert not forbidden & {called, *imported}, file


def test_equal_calls_that_are_both_part_of_the_answer_stay():
    library = ActionLibrary.from_text("FIND(CTX, X) # Find X.\nCONCAT(S1, S2, ...) # Join texts.")
    steps = ('1. a = FIND(CTX, "x") : A', '2. b = FIND(CTX, "x") : B')
    both = Plan.parse("\n".join(["New actions:", "- None", "", *steps]), library)
    assert [step.out for step in both.normalised("keep").steps] == ["a", "b"]
    joined = Plan.parse("\n".join(["New actions:", "- None", "", *steps, "3. ans = CONCAT(a, b) : Join"]), library)
    assert [step.call for step in joined.normalised("keep").steps] == ['FIND(CTX, "x")', "CONCAT(a, a)"]
