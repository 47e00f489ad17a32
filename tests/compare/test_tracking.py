"""Comparisons are logged to trackers; a tracker that fails does not end the comparison."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import pytest
from command_line import run
from plugins import restored_registry

from ragkit import Example, Task, compare
from ragkit.comparison import CompareOptions, Results, Tracker
from ragkit.errors import InvalidInputError, MissingExtraError, RagkitWarning, UnknownSpecError
from ragkit.registry import register
from ragkit.workers import WorkerPool

POOL = [Example("dim it", "fade"), Example("open it", "vent")]
TEST = [Example(f"{word} number {n}", output) for n in range(6) for word, output in (("dim", "fade"), ("open", "vent"))]
STRATEGIES = ["majority", "copy:jaccard", "vote:bm25"]


def task(**changes):
    return Task(**({"instruction": "", "examples": POOL, "test": TEST, "name": "devices"} | changes))


@dataclass
class Recorded:
    """Keeps the records; the attempts whose numbers are in ``fails`` raise an error."""

    fails: frozenset[int] = frozenset()
    records: list[tuple[str, object]] = field(default_factory=list)
    attempts: int = 0

    def start(self, task, settings):
        self._keep("start", (task, settings))

    def log(self, row):
        self._keep("log", row)

    def finish(self, summary):
        self._keep("finish", summary)

    def _keep(self, kind, content):
        self.attempts += 1
        if self.attempts in self.fails:
            raise ConnectionError("the server at https://me:secret-password@host is down")
        self.records.append((kind, content))


@pytest.fixture
def compared():
    def run_it(tracker, **options):
        return compare(task(), STRATEGIES, embedder="hash:16", tracker=tracker, **options)

    return run_it


def test_every_row_is_logged_between_the_settings_and_the_recommendation(compared, tmp_path):
    tracker = Recorded()
    assert isinstance(tracker, Tracker)
    result = compared(tracker, sizes=[2], seeds=[0, 1], out=tmp_path / "run")
    kinds = [kind for kind, _ in tracker.records]
    assert kinds == ["start", *["log"] * 6, "finish"]
    name, settings = tracker.records[0][1]
    assert (name, settings) == ("devices", json.loads((tmp_path / "run" / "run.json").read_text()))
    rows = [record for kind, record in tracker.records if kind == "log"]
    expected = result.to_pandas().drop(columns=["at_floor", "label_cost"])
    assert list(rows[0]) == list(expected.columns)
    assert [row["score"] for row in rows] == list(expected["score"])
    summary = tracker.records[-1][1]
    assert summary == {"recommendation": result.recommendation.strategy, "evidence": result.recommendation.evidence}
    assert result.results.lost_records == []
    again = Recorded()
    compared(again, sizes=[2], seeds=[0, 1], out=tmp_path / "run")  # from the stored results
    assert [record for kind, record in again.records if kind == "log"] == rows


def test_rows_of_workers_are_logged(compared, tmp_path):
    tracker = Recorded()
    options = CompareOptions(workers=WorkerPool("inline"))
    compared(tracker, options=options, out=tmp_path / "run")
    assert sorted(row["strategy"] for kind, row in tracker.records if kind == "log") == sorted(STRATEGIES)


def test_records_that_fail_are_sent_again_at_the_end_in_their_order(compared):
    tracker = Recorded(fails=frozenset({2}))  # the first row
    result = compared(tracker)
    assert [record["strategy"] for kind, record in tracker.records if kind == "log"] == STRATEGIES
    assert tracker.attempts == 6  # none of the records after the failure was sent before the end
    assert result.results.lost_records == []


def test_lost_records_are_reported_at_the_end_and_in_the_results(compared, tmp_path):
    tracker = Recorded(fails=frozenset({2, 3}))  # the first row, and again at the end
    with pytest.warns(RagkitWarning, match=r"1 of 5 records .*majority, pool 2, seed 0 \(ConnectionError: .*is down\)"):
        result = compared(tracker, out=tmp_path / "run")
    assert [row.error for row in result.results.rows] == [None] * 3
    (lost,) = result.results.lost_records
    assert lost.startswith("majority, pool 2, seed 0 (ConnectionError: ")
    assert "secret-password" not in lost
    stored = Results.load(tmp_path / "run")
    assert stored.lost_records == [lost]
    assert "1 records could not be logged to the tracker, such as majority" in (tmp_path / "run/report.md").read_text()


def test_a_tracker_that_is_down_costs_four_attempts(compared):
    tracker = Recorded(fails=frozenset(range(100)))
    with pytest.warns(RagkitWarning, match="5 of 5 records .*settings .*; and 2 more"):
        result = compared(tracker)
    assert tracker.attempts == 4  # one at the start, and three at the end
    assert len(result.results.lost_records) == 5
    assert result.recommendation.strategy is not None


def test_an_interrupted_comparison_ends_the_run(compared):
    class Interrupted:
        name = "interrupted"

        def run(self, setting):
            raise KeyboardInterrupt

    tracker = Recorded()
    with pytest.raises(KeyboardInterrupt):
        compare(task(), ["majority", Interrupted()], embedder="hash:16", tracker=tracker)
    assert [kind for kind, _ in tracker.records] == ["start", "log", "finish"]
    assert tracker.records[-1] == ("finish", None)


def test_a_registered_tracker_is_used_by_its_spec_and_on_the_command_line(compared, tmp_path):
    made = []

    class Named(Recorded):
        def __init__(self, project: str = "none") -> None:
            super().__init__()
            made.append((project, self))

    data = tmp_path / "rows.jsonl"
    lines = [{"input": row.input, "output": row.output, "split": "train"} for row in POOL]
    lines += [{"input": row.input, "output": row.output, "split": "test"} for row in TEST]
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with restored_registry():
        register("tracker", "recorded[:<project>]", Named)
        compared("recorded:mine")
        done = run("compare", "--data", data, "--strategies", "majority", "--sizes", "all", "--out", tmp_path / "out",
                   "--embedder", "hash:8", "--tracker", "recorded")  # fmt: skip
        assert done.returncode == 0, done.stderr
        resumed = run("compare", "resume", tmp_path / "out", "--yes")
        assert resumed.returncode == 0, resumed.stderr
    assert [project for project, _ in made] == ["mine", "none", "none"]
    assert all([kind for kind, _ in each.records][-1] == "finish" for _, each in made)


def test_what_is_not_a_tracker_is_refused_before_anything_runs(compared, tmp_path):
    for given in (object(), 3, print):
        with pytest.raises(
            InvalidInputError, match="`tracker` must be a spec such as 'mlflow' or 'wandb', or an object"
        ):
            compared(given, out=tmp_path / "run")
    with pytest.raises(UnknownSpecError, match="mlflow"):
        compared("mlfow", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_tracker_whose_package_is_missing_names_it(compared, monkeypatch, name):
    monkeypatch.setattr("ragkit._extras.find_spec", lambda module: None if module == name else module)
    with pytest.raises(MissingExtraError, match=f"pip install {name}"):
        compared(name)


@pytest.mark.filterwarnings("default")  # of the packages themselves
def test_mlflow_stores_a_nested_run_for_each_row(compared, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("GIT_PYTHON_REFRESH", "quiet")
    result = compared("mlflow:experiment one")
    assert result.results.lost_records == []
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("experiment one").experiment_id])
    (parent,) = [each for each in runs if "mlflow.parentRunId" not in each.data.tags]
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["recommendation"] == result.recommendation.strategy
    assert parent.data.params["data"] == result.results.provenance["data"]
    nested = {each.data.params["strategy"]: each for each in runs if each is not parent}
    assert nested.keys() == set(STRATEGIES)
    for row in result.results.rows:
        found = nested[row.strategy]
        assert found.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert (found.data.metrics["score"], found.data.params["size"]) == (row.score, str(row.size))


@pytest.mark.filterwarnings("default")
def test_wandb_stores_a_table_of_the_rows_offline(compared, tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    result = compared("wandb:project")
    assert result.results.lost_records == []
    (stored,) = tmp_path.rglob("*.table.json")
    table = json.loads(stored.read_text())
    scores = [row[table["columns"].index("score")] for row in table["data"]]
    assert scores == [row.score for row in result.results.rows]
    assert any(tmp_path.rglob("run-*.wandb"))
