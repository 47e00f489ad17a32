"""What was compared, with which models and on which rows: the head of the HTML report, and its run details."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from ragkit_pipelines.compare.results import Results

# The end of a fingerprint's first part; what an adapter adds follows after a plus sign.
_DTYPE = re.compile(r":(float32|float16|bfloat16|4bit)(?=[+:]|$)")
_SHOWN = {
    "date": "Date",
    "processor": "Processor",
    "metric": "Metric",
    "ragkit": "ragkit",
    "python": "Python",
    "git": "Git revision",
    "data": "Data fingerprint",
    "model": "Model fingerprint",
    "embedder": "Embedder fingerprint",
    "documents": "Documents fingerprint",
    "request": "Options",
}
# What the page shows elsewhere, or in a better form.
_HIDDEN = {
    "strategies",
    "sizes",
    "seeds",
    "model_name",
    "embedder_name",
    "metric",
    "date",
    "processor",
    "held",
    "test_rows",
}


def model_line(results: Results) -> str:
    """Return the name of the language model, its dtype, and whether it has an adapter; empty if nothing is known."""
    known = results.provenance
    if known.get("model") == "none":
        return "none"
    called = next((row.model for row in results.rows if row.prompt_tokens and row.model), None)
    return _described(known.get("model_name") or called, known.get("model", ""))


def embedder_line(results: Results) -> str:
    """Return the name of the embedder and its dtype."""
    known = results.provenance
    return _described(known.get("embedder_name"), known.get("embedder", ""))


def _described(name: str | None, fingerprint: str) -> str:
    dtype = _DTYPE.search(fingerprint)
    if dtype is None:
        return name or fingerprint
    adapter = ", with an adapter" if fingerprint[dtype.end() :].startswith("+") else ""
    return f"{name or fingerprint[: dtype.start()]} ({dtype[1]}{adapter})"


def head_facts(results: Results) -> list[tuple[str, str]]:
    """Return the model and the embedder, if they are known, and the number of test rows."""
    facts = [("Model", model_line(results)), ("Embedder", embedder_line(results)), ("Test rows", _test_rows(results))]
    return [(name, value) for name, value in facts if value]


def run_facts(results: Results) -> list[tuple[str, str]]:
    """Return what was run, on which rows, when and where."""
    rows, known, leaked = results.rows, results.provenance, results.leaked_test_rows
    facts = [
        *head_facts(results),
        ("Excluded test rows", f"{leaked:,}, which also appeared in the pool" if leaked else ""),
        ("Metric", known.get("metric", "")),
        ("Pool sizes", ", ".join(f"{size:,}" for size in sorted({row.size for row in rows}))),
        ("Seeds", ", ".join(map(str, sorted({row.seed for row in rows})))),
        ("Kept fixed", _held(known)),
        ("Strategies", ", ".join(dict.fromkeys(row.strategy for row in rows))),
        ("Date", known.get("date", "")),
        ("Processor", known.get("processor", "")),
    ]
    return [(name, value) for name, value in facts if value]


def version_facts(results: Results) -> list[tuple[str, str]]:
    """Return the versions, fingerprints and options of the run."""
    return [(_SHOWN.get(name, name), value) for name, value in results.provenance.items() if name not in _HIDDEN]


def _test_rows(results: Results) -> str:
    n = max((row.n for row in results.rows), default=0)
    return results.provenance.get("test_rows") or f"{n:,}"


def _held(known: Mapping[str, str]) -> str:
    """Return what had the same seed in all runs."""
    try:
        held = json.loads(known.get("held", "{}"))
    except ValueError:
        return ""
    return ", ".join(f"{what} (seed {seed})" for what, seed in held.items()) if isinstance(held, dict) else ""
