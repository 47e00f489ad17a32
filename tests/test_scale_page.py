"""The numbers on docs/scale.md are those of the committed results."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/scale.md").read_text()


def results(name):
    return json.loads((ROOT / f"benchmarks/{name}/results/{name}.json").read_text())


def test_rates_are_the_measured_ones():
    rates = {name: float(value) for name, value in re.findall(r"^([A-Z]+) = ([\d.e-]+) ", PAGE, re.MULTILINE)}
    workers = results("workers")
    million = next(point for point in results("index")["growth"] if point["rows"] == 1_000_000)
    measured = {
        "EMBED": workers["minilm"]["passages_a_cpu_second"],
        "BUILD": million["build_s"] / 1e6,
        "SEARCH": million["search_ms"] / 1e9,
        "BESIDE": workers["stored"]["bytes_a_passage"] - 2 * 384,
    }
    assert rates == pytest.approx(measured, rel=0.005)


def test_predictions_are_those_of_the_rates_and_near_what_was_measured():
    growth = {point["rows"]: point for point in results("index")["growth"]}
    for rows in (100_000, 300_000):
        share = rows / 1_000_000
        row = re.search(rf"^\| {rows:,} \| (.*) s \| (.*) s \| (.*) ms \| (.*) ms \|$", PAGE, re.MULTILINE)
        shown = [float(value) for value in row.groups()]
        for place, name in ((0, "build_s"), (2, "search_ms")):
            predicted, measured = share * growth[1_000_000][name], growth[rows][name]
            assert shown[place : place + 2] == pytest.approx([predicted, measured], abs=0.006)
            assert predicted == pytest.approx(measured, rel=0.15)


def test_the_pools_figures_are_the_measured_ones():
    engines = results("workers")["engines"]
    shown = re.search(r"took ([\d.]+) s inline, ([\d.]+) s on\s+two processes and ([\d.]+) s on two Ray", PAGE).groups()
    measured = [engines["inline_s"], engines["process_2"]["seconds"], engines["ray_2"]["seconds"]]
    assert [float(value) for value in shown] == pytest.approx(measured, abs=0.06)
    assert all(each["same_bytes"] for each in engines.values() if isinstance(each, dict))
