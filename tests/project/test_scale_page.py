"""The numbers on docs/scale.md are those of the committed results."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/scale.md").read_text()


def results(name, folder=None):
    return json.loads((ROOT / f"benchmarks/{folder or name}/results/{name}.json").read_text())


def points():
    return {point["rows"]: point for point in results("large", "index")["flat"]["points"]}


def numbers(pattern):
    """The numbers in the cells of a table's row."""
    row = re.search(rf"^\| {pattern} \| (.*) \|$", PAGE, re.MULTILINE).group(1)
    return [float(re.match(r"[\d.,]+", cell.strip()).group().replace(",", "")) for cell in row.split("|")]


def test_rates_are_the_measured_ones():
    rates = {name: float(value) for name, value in re.findall(r"^([A-Z]+) = ([\d.e-]+) ", PAGE, re.MULTILINE)}
    workers, most = results("workers"), points()[10_000_000]
    measured = {
        "EMBED": workers["minilm"]["passages_a_cpu_second"],
        "BUILD": most["build"]["add_cpu_s"] / 1e7,
        "SEARCH": most["search"]["batch_cpu_s"] / 256 / 1e7,
        "BESIDE": workers["stored"]["bytes_a_passage"] - 2 * 384,
    }
    assert rates == pytest.approx(measured, rel=0.005)


def test_predictions_are_those_of_the_rates_and_near_what_was_measured():
    most = points()[10_000_000]
    for rows in (100_000, 1_000_000):
        share, point = rows / 10_000_000, points()[rows]
        predicted = [share * most["build"]["add_cpu_s"], share * most["search"]["batch_cpu_s"] * 1000 / 256]
        measured = [point["build"]["add_cpu_s"], point["search"]["batch_cpu_s"] * 1000 / 256]
        shown = [*zip(predicted, measured, strict=True)]
        assert numbers(f"{rows:,}") == pytest.approx([*shown[0], *shown[1]], abs=0.006)
        assert predicted == pytest.approx(measured, rel=0.15)


def test_ten_million_vectors_are_within_their_memory_and_exact():
    tables = PAGE.partition("## Ten million")[2]
    for rows, point in points().items():
        build, search, checked = point["build"], point["search"], point["checked"]
        cells = re.search(rf"^\| {rows:,} \| (.*) \|$", tables, re.MULTILINE).group(1).split("|")
        shown = [float(re.match(r"[\d.]+", cell.strip()).group()) for cell in cells[:6]]
        memory = [build["peak_bytes"], search["peak_bytes"], search["peak_anonymous_bytes"], build["disk_bytes"]]
        assert shown == pytest.approx(
            [build["add_cpu_s"], search["batch_cpu_s"], *(each / 1e9 for each in memory)], abs=0.051
        )
        assert max(memory[:2]) < 12e9
        assert (checked["places_as_brute_force"], checked["neighbours_missed"], checked["scores_wrong"]) == (2560, 0, 0)
        assert cells[6].strip() == "2,560 of 2,560"
    grows = results("large", "index")["flat"]["grows_with_power"]
    shown = re.search(r"power ([\d.]+)\s.{,60}\sand ([\d.]+)\s+for\s+searching", PAGE, re.DOTALL).groups()
    measured = [grows[f"{name} 1000000-10000000"] for name in ("build add_cpu_s", "search batch_cpu_s")]
    assert [float(each) for each in shown] == pytest.approx(measured, abs=0.006)


def test_the_approximate_parts_figures_are_the_measured_ones():
    for point in results("large", "index")["IVF2048,SQfp16"]["points"]:
        build, search = point["build"], point["search"]
        memory = [build["peak_bytes"], search["peak_bytes"]]
        assert numbers(rf"{point['rows']:,} in IVF2048,SQfp16") == pytest.approx(
            [build["compact_cpu_s"], search["ms_a_query_in_a_batch"], search["ms_a_query_alone"],
             point["checked"]["recall"], *(each / 1e9 for each in memory), build["disk_bytes"] / 1e9],
            abs=0.051, rel=0.005,
        )  # fmt: skip
        assert max(memory) < 12e9


def test_the_pools_figures_are_the_measured_ones():
    shown = {
        "engines": {
            "2 processes": "process_2",
            "2 workers on a running Ray cluster": "ray_2_on_a_running_cluster",
            "2 workers on Ray, starting the cluster included": "ray_2",
        },
        "engines_minilm": {
            "2 processes, MiniLM": "process_2",
            "2 workers on a running Ray cluster, MiniLM": "ray_2_on_a_running_cluster",
        },
    }
    for part, rows in shown.items():
        engines = results("workers")[part]
        inline = numbers("inline" if part == "engines" else "inline, MiniLM")
        assert inline == pytest.approx([engines["inline_cpu_s"], 1, engines["inline_s"], 1], abs=0.051)
        for row, name in rows.items():
            each = engines[name]
            wanted = [each["cpu_s"], each["cpu_of_inline"], each["seconds"], each["of_inline"]]
            assert numbers(row) == pytest.approx(wanted, abs=0.051)
            assert each["same_bytes"]


def test_the_simulated_figures_are_those_of_the_simulation():
    found = results("simulation", "workers")
    for point in found["points"]:
        shown = numbers(f"{point['passages']:,} on {point['workers']}")
        predicted, measured = point["predicted_s"], point["measured_s"]
        assert shown == pytest.approx([predicted, measured, predicted / measured], abs=0.006)
        assert 0.85 < predicted / measured < 1.15
    for case in found["node_of_a_billion"]:
        dies = f"{case['dies_every_hours']:.0f} h" if case["dies_every_hours"] else "never"
        shown = numbers(rf"{case['workers']:,} \| {dies}")
        assert shown == pytest.approx([case["hours"], case["attempts"], 100 * case["writer_busy"]], abs=0.51, rel=0.002)
