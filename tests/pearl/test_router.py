"""Routing between plans and direct answers."""

from dataclasses import replace
from random import Random

import pytest
from recorded_pearl import GOOD, THREE, CountingModel, is_planning, quick

from ragkit.errors import DataFileError, InvalidInputError
from ragkit_pipelines.pearl.pipeline import Pearl
from ragkit_pipelines.pearl.router import Labelled, Router


def rows_where_counting_loses(count, rng, plans=False):
    rows = []
    for n in range(count):
        counts = rng.random() < 0.5
        question = f"How many {n} are there?" if counts else f"Why does {n} leave?"
        better = rng.random() < 0.9
        planned, direct = (0.0, 1.0) if counts == better else (1.0, 0.0)
        rows.append(Labelled(question=question, planned=planned, direct=direct, plan=THREE if plans else None))
    return rows


def test_a_router_learns_when_counting_questions_lose():
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


def test_a_router_trained_on_noise_does_not_help():
    rng = Random(0)
    for seed in range(5):
        rows = [
            Labelled(question=rng.choice(["why?", "who?", "how many?"]), planned=float(rng.random() < 0.6),
                     direct=float(rng.random() < 0.6))
            for _ in range(120)
        ]  # fmt: skip
        assert not Router.fit(rows, seed=seed).report.helps


def test_a_router_needs_enough_rows_of_both_kinds(tmp_path):
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
