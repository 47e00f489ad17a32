"""The scripts under benchmarks/reliability: every scenario runs, and each of them sees what is broken on purpose."""

import importlib
import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from ragkit.index._array_file import ArrayFile

FOLDER = Path(__file__).parents[2] / "benchmarks" / "reliability"
QUICK = ("index-killed-writer", "models-damaged-cache", "pearl-killed-run", "comparison-full-disk")


@pytest.fixture(scope="module")
def scenarios():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        yield importlib.import_module("run")


@pytest.fixture
def play(scenarios):
    """Play rounds of a scenario in this process until one goes wrong, and give what it says."""

    def played(scenario, rounds=5):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            stories = (scenarios.one_round(scenario, seed).stories for seed in range(rounds))
            return next(filter(None, stories), ["nothing"])[0]

    return played


def replay(scenario):
    line = [sys.executable, str(FOLDER / "run.py"), "--replay", f"{scenario}:3", "--json"]
    return subprocess.run(line, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("scenario", QUICK)
def test_nothing_is_lost_or_silently_wrong(scenario):
    done = replay(scenario)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert sum(sum(outcomes.values()) for outcomes in found["counts"].values()) >= 3
    assert found["stories"] == []


@pytest.mark.slow
def test_every_scenario_and_the_summary(tmp_path, scenarios):
    others = [name for name in scenarios.SCENARIOS if name not in QUICK]
    for scenario in others:
        test_nothing_is_lost_or_silently_wrong(scenario)
    line = [sys.executable, str(FOLDER / "run.py"), "--minutes", "0.1", "--only", "pearl-full-disk"]
    assert subprocess.run([*line, "--out", str(tmp_path / "r.json")], check=False).returncode == 0
    written = json.loads((tmp_path / "r.json").read_text())
    assert written["totals"]["injected"] == 4 * written["rounds"]["pearl-full-disk"]
    assert written["totals"]["lost"] == written["totals"]["wrong"] == 0


# What breaks a part so that its scenario must see it.


def test_answers_without_checksums_are_seen(play, monkeypatch):
    monkeypatch.setattr("ragkit.models._response_cache._checksum", lambda key, text: 0)
    assert "wrong" in play("models-damaged-cache")


def test_a_trace_that_is_not_read_is_seen(play, monkeypatch):
    monkeypatch.setattr("ragkit_pipelines.pearl.run.trace.Trace.find", lambda self, key, fingerprint: None)
    assert "asked again" in play("pearl-killed-run")


def test_half_a_line_in_a_trace_is_seen(play, monkeypatch):
    monkeypatch.setattr("os.ftruncate", lambda file, size: None)
    assert "pearl-full-disk: round: unexplained" in play("pearl-full-disk")  # its lines are no JSON any more


def test_vectors_that_are_not_written_are_seen(play, monkeypatch):
    write = ArrayFile.write

    def zeros(self, start, values, *, durable=True):
        write(self, start, np.zeros_like(values) if self.shape else values, durable=durable)

    monkeypatch.setattr(ArrayFile, "write", zeros)
    assert "is damaged: block 0" in play("index-killed-writer")


@pytest.mark.slow
def test_memory_does_not_grow_beyond_the_data(tmp_path, scenarios):
    memory = importlib.import_module("memory")
    found = memory.churn(tmp_path, adds=100_000, live=5_000)
    assert found["rounds"][-1]["documents"] == 5_000
    assert found["ratio"] < 1.1
