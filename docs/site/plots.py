"""Plot the committed results. The plots are drawn whenever the site is built, and none is committed."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
# A neutral grey and a transparent background are readable on light and on dark pages.
_STYLE = {
    "font.size": 9,
    "svg.hashsalt": "ragkit",
    "axes.spines.top": False,
    "axes.spines.right": False,
    **dict.fromkeys(
        ["text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "axes.titlecolor"], "#808080"
    ),
}


class Plot(NamedTuple):
    """One plot.

    Attributes:
        title: Description, also used as alternative text.
        results: Results file, relative to benchmarks/.
        draw: Function that draws the results.
    """

    title: str
    results: str
    draw: Callable[[Axes, Any], None]


def svg(name: str) -> bytes:
    """Draw a plot.

    Args:
        name: A key of `PLOTS`.

    Returns:
        The SVG file. The same results give the same bytes.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    plot = PLOTS[name]
    facts = json.loads((BENCHMARKS / plot.results).read_text(encoding="utf-8"))
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.2, 3.6), layout="constrained")
        axes = figure.add_subplot()
        plot.draw(axes, facts)
        if axes.get_legend_handles_labels()[1]:
            axes.legend(frameon=False, fontsize=8)
        made = io.BytesIO()
        figure.savefig(made, format="svg", transparent=True, metadata={"Date": None})
    return made.getvalue()


def _curves(axes: Axes, facts: Any) -> None:
    """Draw the score by pool size, one line per strategy, with the interval of one seed or the range of several."""
    for strategy in dict.fromkeys(row["strategy"] for row in facts["rows"]):
        own = [row for row in facts["rows"] if row["strategy"] == strategy]
        sizes = sorted({row["size"] for row in own})
        seeds = [[row for row in own if row["size"] == size] for size in sizes]
        scores = [[row["score"] for row in rows] for rows in seeds]
        low = [rows[0]["low"] if len(rows) == 1 else min(each) for rows, each in zip(seeds, scores, strict=True)]
        high = [rows[0]["high"] if len(rows) == 1 else max(each) for rows, each in zip(seeds, scores, strict=True)]
        line = axes.plot(sizes, [fmean(each) for each in scores], marker="o", markersize=3, label=strategy)[0]
        axes.fill_between(sizes, low, high, color=line.get_color(), alpha=0.15)
    axes.set(xscale="log", xlabel="pool size (examples)", ylabel="score on the test rows", ylim=(0, 1))


def _scores(axes: Axes, facts: Any) -> None:
    """Draw the score at the largest pool, one bar per strategy, with its interval."""
    largest = max(row["size"] for row in facts["rows"])
    rows = [row for row in facts["rows"] if row["size"] == largest]
    below = [max(0.0, row["score"] - row["low"]) for row in rows]  # rounding may move a bound past the score
    above = [max(0.0, row["high"] - row["score"]) for row in rows]
    places = range(len(rows))
    axes.barh(places, [row["score"] for row in rows], xerr=[below, above], color="#26a69a", ecolor="#808080")
    axes.set_yticks(places, [row["strategy"] for row in rows])
    axes.invert_yaxis()
    axes.set(xlabel=f"score on the test rows, pool of {largest}", xlim=(0, 1))


def _groups(
    axes: Axes, groups: Sequence[str], series: Mapping[str, Sequence[float | None]], label: str, *, log: bool = False
) -> None:
    """Draw grouped bars: one group per row of results, one colour per series."""
    height = 0.8 / len(series)
    for number, (name, values) in enumerate(series.items()):
        places = [place + (number - (len(series) - 1) / 2) * height for place in range(len(groups))]
        axes.barh(places, [value or 0 for value in values], height=height, label=name)
    axes.set_yticks(range(len(groups)), groups)
    axes.invert_yaxis()
    axes.set(xlabel=label, xscale="log" if log else "linear")


def _embedding(axes: Axes, facts: Any) -> None:
    corpora = list(dict.fromkeys(row["corpus"] for row in facts["rows"]))
    backends = dict.fromkeys(row["backend"] for row in facts["rows"])
    found = {(row["corpus"], row["backend"]): row["texts_a_cpu_second"] for row in facts["rows"]}
    series = {backend: [found.get((corpus, backend)) for corpus in corpora] for backend in backends}
    _groups(axes, corpora, series, "texts per second on one core, log scale", log=True)


def _retrieval(axes: Axes, facts: Any) -> None:
    collections = facts["collections"]
    found = [{row["retriever"]: row["ndcg@10"] for row in each["rows"]} for each in collections]
    series = {name: [each.get(name) for each in found] for name in ("bm25", "dense", "hybrid")}
    _groups(axes, [each["name"] for each in collections], series, "nDCG@10")


def _selectors(axes: Axes, facts: Any) -> None:
    parts = {
        "Jaccard": ("jaccard", "ours_ms", {"a set per row": "naive_ms", "cached sets": "cached_sets_ms"}),
        "BM25": ("bm25", "ours_ms", {"bm25s with numba": "bm25s_numba_ms"}),
        "n-grams": ("ngram", "ours_ms", {"LangChain": "langchain_ms"}),
        "MMR": ("mmr", "ours_ms", {"LangChain": "langchain_ms"}),
    }
    names, values, colours = [], [], []
    for title, (part, ours, others) in parts.items():
        for name, key in {"ragkit": ours, **others}.items():
            names.append(f"{title}: {name}")
            values.append(facts[part][key])
            colours.append("#26a69a" if name == "ragkit" else "#b0bec5")
    axes.barh(range(len(names)), values, color=colours)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set(xscale="log", xlabel="milliseconds per query, log scale")


def _index(axes: Axes, facts: Any) -> None:
    batches = [name for name in facts["search"] if name.startswith("batch_")]
    sizes = [int(name.removeprefix("batch_")) for name in batches]
    for label, key in {"ragkit": "ours_ms", "FAISS": "raw_ms", "FAISS with BLAS": "raw_tuned_ms"}.items():
        axes.plot(sizes, [facts["search"][name][key] for name in batches], marker="o", markersize=3, label=label)
    axes.set(xscale="log", yscale="log", xlabel="queries per batch", ylabel="milliseconds per query")


def _growth(axes: Axes, facts: Any) -> None:
    rows = [row["rows"] for row in facts["growth"]]
    for label, key in {"build, seconds": "build_s", "search, milliseconds": "search_ms"}.items():
        axes.plot(rows, [row[key] for row in facts["growth"]], marker="o", markersize=3, label=label)
    axes.set(xscale="log", yscale="log", xlabel="vectors of 384 numbers in the index")


def _ratios(**parts: tuple[str, str]) -> Callable[[Axes, Any], None]:
    """Draw speed-ups as bars; ``parts`` maps a label to the keys of a result."""

    def draw(axes: Axes, facts: Any) -> None:
        names = [name.replace("_", " ") for name in parts]
        axes.barh(range(len(names)), [facts[part][key] for part, key in parts.values()], color="#26a69a")
        axes.set_yticks(range(len(names)), names)
        axes.axvline(1, color="#808080", linewidth=0.8)
        axes.invert_yaxis()
        axes.set(xlabel="speed-up")

    return draw


def _workers(axes: Axes, facts: Any) -> None:
    engines = {name: each for name, each in facts["engines"].items() if isinstance(each, dict)}
    axes.barh(range(len(engines)), [each["of_inline"] for each in engines.values()], color="#26a69a")
    axes.set_yticks(range(len(engines)), [name.replace("_", ", workers: ") for name in engines])
    axes.axvline(1, color="#808080", linewidth=0.8)
    axes.invert_yaxis()
    axes.set(xlabel="time relative to one process")


def _coverage(axes: Axes, facts: Any) -> None:
    for name in facts["coverage"][0]["coverage"]:
        seeds = sorted({row["seeds"] for row in facts["coverage"]})
        own = [[row["coverage"][name] for row in facts["coverage"] if row["seeds"] == each] for each in seeds]
        line = axes.plot(seeds, [sum(each) / len(each) for each in own], marker="o", markersize=3, label=name)[0]
        axes.fill_between(seeds, list(map(min, own)), list(map(max, own)), color=line.get_color(), alpha=0.15)
    axes.axhline(0.95, color="#808080", linewidth=0.8)
    axes.set(xlabel="seeds", ylabel="share of intervals that cover the true value")


PLOTS = {
    "banking77": Plot("Scores on banking77 by pool size", "icl_vs_finetuned/results/banking77.json", _curves),
    "trec6": Plot("Scores on trec6 by pool size", "icl_vs_finetuned/results/trec6.json", _curves),
    "demo": Plot("Scores on device commands", "icl_vs_finetuned/results/demo.json", _scores),
    "statistics": Plot(
        "Coverage of 95 % intervals by number of seeds", "statistics/results/statistics.json", _coverage
    ),
    "selectors": Plot("Time per selection", "selectors/results/selectors.json", _selectors),
    "retrieval": Plot("nDCG@10 of retrievers by collection", "retrieval/results/retrieval.json", _retrieval),
    "index": Plot("Search time by batch size", "index/results/index.json", _index),
    "growth": Plot("Build and search time by index size", "index/results/index.json", _growth),
    "embedding": Plot("Texts embedded per second", "embedding/results/embedding.json", _embedding),
    "workers": Plot("Embedding time by engine", "workers/results/workers.json", _workers),
    "models": Plot(
        "Speed-up from batching and from cached prefixes",
        "models/results/models.json",
        _ratios(
            batching=("batch", "ratio"),
            shared_prefix=("prefix", "ratio"),
            prefix_cached_between_calls=("prefix", "ratio_kept"),
            scoring_all_choices_together=("score", "ratio"),
        ),
    ),
    "serving": Plot(
        "Speed-up from serving requests in batches",
        "serving/results/serving.json",
        _ratios(
            one_model=("one_model", "ratio"),
            three_adapters=("three_adapters", "ratio"),
            one_model_with_long_prompts=("one_model_long_prompts", "ratio"),
            three_adapters_with_long_prompts=("three_adapters_long_prompts", "ratio"),
        ),
    ),
}
