"""Steps that need no model, and plans made smaller."""

import json
from collections import Counter

import pytest

from ragkit.errors import InvalidInputError
from ragkit_pipelines.pearl.plan.action import Action
from ragkit_pipelines.pearl.plan.builtins import compute, is_local, items
from ragkit_pipelines.pearl.plan.library import ActionLibrary
from ragkit_pipelines.pearl.plan.plan import Plan

LIBRARY = ActionLibrary.default()


def run(name, *values):
    return compute(LIBRARY[name], values)


def test_an_action_of_a_builtins_name_that_reads_the_document_is_a_models_work():
    assert is_local(LIBRARY["SORT"])
    assert not is_local(Action("SORT", ("CTX", "X"), "Sort X."))
    assert not is_local(LIBRARY["LIST_ALL"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- a\n- b", ["a", "b"]),
        ("Here they are:\n\n* a\n  goes on\n* b", ["a goes on", "b"]),
        ("1. a\n2) b\n\n10. c", ["a", "b", "c"]),
        ("• a\n– b", ["a", "b"]),
        ("- 1939 to 1945\n- 3.5 percent", ["1939 to 1945", "3.5 percent"]),
        ("None.", []),
        ("- None", []),
        ("not mentioned", []),
        ("", []),
        (("- kept as it is", "b\nb"), ["- kept as it is", "b\nb"]),
    ],
)
def test_items(text, expected):
    assert items(text) == expected


@pytest.mark.parametrize("text", ["There are three of them.", "a\nb", "-5", "1939 was the year"])
def test_prose_is_not_counted_as_a_list(text):
    with pytest.raises(InvalidInputError):
        run("COUNT", text)


def test_what_they_compute():
    shown = "- Item 10\n- item 9\n- b\n- B!\n- Item 10"
    assert run("COUNT", shown) == "5"
    assert run("COUNT", "None") == "0"
    assert run("SORT", shown) == "- b\n- B!\n- item 9\n- Item 10\n- Item 10"
    assert run("DEDUP", shown) == "- Item 10\n- item 9\n- b"
    assert run("TAKE", shown, "2") == "- Item 10\n- item 9"
    assert run("TAKE", shown, "0") == "None"
    assert run("TAKE", shown, "99") == shown
    assert run("COUNT", run("DEDUP", run("SORT", shown))) == "3"
    assert run("CONCAT", "a\n", "b") == "a\n\nb\n"
    assert run("CONCAT", ("x", "y"), "z") == "- x\n- y\nz\n"


@pytest.mark.parametrize("number", ["", "-1", "two", "1e3", "9" * 40, "²", ("1",)])
def test_take_needs_a_number(number):
    with pytest.raises(InvalidInputError):
        run("TAKE", "- a", number)


def plan(*steps):
    return Plan.parse("\n".join(["New actions:", "- None", "", *steps]), LIBRARY)


def test_normalising_keeps_the_meaning():
    before = plan(
        '1. a = ABOUT(CTX, "x") : A',
        '2. b = ABOUT(CTX, "x") : The same call',
        "3. c = CONCAT(a) : A copy",
        "4. d = COMPARE(CTX, c, b) : Both",
        '5. loose = ABOUT(CTX, "y") : Not used',
        "6. ans = CONCAT(d) : Nothing new",
    )
    kept = before.normalised()
    assert [step.call for step in kept.steps] == [
        'ABOUT(CTX, "x")', "COMPARE(CTX, a, a)", 'ABOUT(CTX, "y")', "CONCAT(d)",
    ]  # fmt: skip
    # With the loose value before it, the copy at the end keeps the order of the answer.
    assert [each.code for each in kept.diagnostics if each.level == "repair"] == ["merged-call", "dropped-concat"]
    pruned = before.normalised("prune")
    assert [step.out for step in pruned.steps] == ["a", "d"]
    assert Plan.parse(pruned.render(), LIBRARY) == pruned
    assert kept.normalised() == kept
    assert pruned.normalised("prune") == pruned


def test_a_value_that_stands_in_the_answer_is_never_merged_away():
    twice = plan('1. a = ABOUT(CTX, "x") : A', '2. b = ABOUT(CTX, "x") : B', '3. c = RELATION(CTX, b, "y") : C')
    assert twice.normalised() == twice
    shown = plan('1. a = ABOUT(CTX, "x") : A', "2. b = MEANING_OF(CTX, a) : B", "3. c = CONCAT(a) : A once more")
    assert shown.normalised() == shown
    text = plan('1. a = CONCAT("x") : A text')
    assert text.normalised() == text


def test_published_plans_lose_what_the_reference_counts(data):
    library = ActionLibrary.from_text((data / "pearl/actions.txt").read_text())
    lines = (data / "pearl/plans.jsonl").read_text().splitlines()
    before = [Plan.parse(json.loads(line)["plan"], library) for line in lines]
    after = [each.normalised("prune") for each in before]
    done = Counter(each.code for plan in after for each in plan.diagnostics if each.level == "repair")
    dangling = sum(each.code == "dangling-value" for plan in before for each in plan.diagnostics)
    assert done["pruned"] >= dangling > 20
    assert all(len(plan.sinks) == 1 for plan in after)
    assert all(
        a.steps[-1].out == b.steps[-1].out or "dropped-concat" in done for a, b in zip(before, after, strict=True)
    )
    assert sum(len(plan.steps) for plan in before) - sum(len(plan.steps) for plan in after) == sum(done.values())
