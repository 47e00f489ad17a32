"""ragkit compared with lm-evaluation-harness, SetFit and DSPy: the same rows, the same models, the same run.

    pip install -r benchmarks/peers/requirements.txt
    python benchmarks/peers/run.py                     the programs without a result
    python benchmarks/peers/run.py --again dspy_fixed  this program, even if it has a result

The programs are the functions of ``snippets.py``. Each runs in a process of its own, with one thread, in which the
libraries are imported before the clock starts; loading the model, training and answering are timed. DSPy's language
model is ``ragkit.serving.Server`` in the same process, so that its CPU seconds are counted. The results are written to
``results/peers.json`` after each program. Programs whose packages are not installed are skipped.

The rows are 300 training rows and 60 test rows of trec6, drawn with seed 0 as in ``benchmarks/real_models``. SetFit is
made for few labelled rows, so the classifiers are trained on the first eight rows of each class.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import snippets

from ragkit.comparison import mcnemar
from ragkit.embedders._sentence_transformer import minilm_folder
from ragkit_pipelines.compare.statistics.tests import wilson

HERE = Path(__file__).parent
RESULTS = HERE / "results/peers.json"
REAL_MODELS = runpy.run_path(str(HERE.parent / "real_models/run.py"))
K, PER_CLASS = 4, 8
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # no download when DSPy is imported
}


@dataclass(frozen=True)
class Program:
    """A program of ``snippets.py``.

    Attributes:
        tool: The tool and what it does, as the table shows it.
        packages: Modules that it needs, which are imported before the clock starts.
        ours: The programs of ragkit that it is compared with; none for ragkit's programs.
        few: Whether it is trained on a few rows of each class.
        served: Whether it needs a server.
    """

    tool: str
    packages: tuple[str, ...]
    ours: tuple[str, ...] = ()
    few: bool = False
    served: bool = False


LOCAL, ENCODER = ("torch", "transformers", "datasets", "peft"), ("sentence_transformers", "sklearn.linear_model")
PROGRAMS = {
    "ragkit_score": Program("ragkit `score:fixed`", LOCAL),
    "lm_eval": Program("lm-evaluation-harness", (*LOCAL, "lm_eval"), ("ragkit_score",)),
    "ragkit_head": Program("ragkit `classifier-head`", ENCODER, few=True),
    "ragkit_encoder": Program("ragkit `full`", ENCODER, few=True),
    "ragkit_setfit": Program("ragkit `setfit`", ENCODER, few=True),
    "setfit": Program("SetFit", ("setfit", *ENCODER), ("ragkit_setfit", "ragkit_head", "ragkit_encoder"), few=True),
    "ragkit_fixed": Program("ragkit `few-shot:fixed`", LOCAL),
    "dspy_fixed": Program("DSPy LabeledFewShot", (*LOCAL, "dspy"), ("ragkit_fixed",), served=True),
    "ragkit_nearest": Program("ragkit `few-shot:embedding`", (*LOCAL, *ENCODER)),
    "dspy_nearest": Program("DSPy KNNFewShot", (*LOCAL, *ENCODER, "dspy"), ("ragkit_nearest",), served=True),
    "dspy_bootstrap": Program("DSPy BootstrapFewShot", (*LOCAL, "dspy"), ("ragkit_nearest",), served=True),
}
PEERS = {"lm_eval": "lm-eval", "setfit": "setfit", "dspy": "dspy"}  # modules and their distributions


def rows_of(data: Path, smollm2: Path) -> snippets.Rows:
    """Return the rows that all programs share."""
    task = REAL_MODELS["trec6"](data)
    parts = {
        split: [{"input": row.input, "output": row.output, "split": split} for row in rows]
        for split, rows in (("train", task.examples), ("test", task.test))
    }
    return snippets.Rows(**parts, labels=task.labels, k=K, smollm2=str(smollm2), minilm=str(minilm_folder()))


def few(rows: snippets.Rows) -> snippets.Rows:
    """Keep the first training rows of each class."""
    taken: dict[str, int] = dict.fromkeys(rows.labels, 0)
    kept = []
    for row in rows.train:
        taken[row["output"]] += 1
        if taken[row["output"]] <= PER_CLASS:
            kept.append(row)
    return replace(rows, train=kept)


def lines_of(name: str) -> int:
    """Count the lines of a program: those of its function and of the functions of ``snippets.py`` that it calls.

    Blank lines, comments and the line with ``def`` are not counted.
    """
    source = Path(snippets.__file__).read_text(encoding="utf-8")
    functions = {each.name: each for each in ast.parse(source).body if isinstance(each, ast.FunctionDef)}
    needed, found = [name], set()
    while needed:
        found.add(current := needed.pop())
        used = {each.id for each in ast.walk(functions[current]) if isinstance(each, ast.Name)}
        needed += [each for each in used & functions.keys() if each not in found]
    lines = source.splitlines()
    bodies = [lines[part.body[0].lineno - 1 : part.end_lineno] for part in map(functions.__getitem__, found)]
    return sum(bool(line.strip()) and not line.strip().startswith("#") for body in bodies for line in body)


def run_one(name: str, rows: snippets.Rows, out: Path) -> None:
    """Run one program in this process, and write its answers and times."""
    program = PROGRAMS[name]
    for package in ("ragkit.comparison", "ragkit.selectors", *program.packages):
        import_module(package)
    if program.few:
        rows = few(rows)
    server: Any = nullcontext()
    if program.served:
        from ragkit.serving import Server

        server = Server("smollm2")
    with server as running:
        if running is not None:
            rows = replace(rows, url=running.url)
        load, wall, cpu = os.getloadavg()[0], perf_counter(), process_time()
        answers = getattr(snippets, name)(rows)
        wall, cpu = perf_counter() - wall, process_time() - cpu
    assert len(answers) == len(rows.test), f"{len(answers)} answers to {len(rows.test)} rows"
    facts = {
        "training_rows": len(rows.train),
        "wall_s": round(wall, 1),
        "cpu_s": round(cpu, 1),
        "load": round(load, 1),
        "answers": answers,
    }
    out.write_text(json.dumps(facts), encoding="utf-8")


def summary(results: dict[str, dict[str, Any]], expected: Sequence[str]) -> list[dict[str, Any]]:
    """Compare each peer with ragkit's programs on the same test rows."""
    pairs = []
    named = [(own, name) for name, program in PROGRAMS.items() for own in program.ours]
    for own, name in named:
        if own not in results or name not in results:
            continue
        ours, theirs = (results[each]["answers"] for each in (own, name))
        right = [[float(a == b) for a, b in zip(answers, expected, strict=True)] for answers in (ours, theirs)]
        only_ours, only_theirs, p = mcnemar(*right)
        pairs.append({
            "ours": own,
            "peer": name,
            "only_ours_right": only_ours,
            "only_peer_right": only_theirs,
            "p": round(p, 4),
            "equal_answers": sum(a == b for a, b in zip(ours, theirs, strict=True)),
            "cpu_ratio": round(results[own]["cpu_s"] / results[name]["cpu_s"], 3),
        })  # fmt: skip
    return pairs


def completed(result: dict[str, Any], name: str, expected: Sequence[str]) -> dict[str, Any]:
    """Add the accuracy with its interval, and the lines of the program."""
    correct = sum(a == b for a, b in zip(result["answers"], expected, strict=True))
    low, high = wilson(correct, len(expected))
    return {
        "tool": PROGRAMS[name].tool,
        "accuracy": round(correct / len(expected), 4),
        "interval": [round(low, 4), round(high, 4)],
        "unreadable": sum(not answer for answer in result["answers"]),
        "lines": lines_of(name),
        **{key: value for key, value in result.items() if key not in {"tool", "accuracy", "interval", "lines"}},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=REAL_MODELS["DATA"], help="folder of the data; RAGKIT_DATA")
    parser.add_argument("--work", type=Path, default=Path("runs/peers"), help="folder for the exported model")
    parser.add_argument("--again", nargs="*", default=[], choices=list(PROGRAMS), help="programs to repeat")
    parser.add_argument("--only", nargs="*", default=list(PROGRAMS), choices=list(PROGRAMS), help="programs to run")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    smollm2 = given.work.resolve() / "smollm2"
    rows = rows_of(given.data, smollm2)
    if given.one:
        run_one(given.one, rows, given.out)
        return
    if not smollm2.exists():
        from ragkit.finetuning import export_merged

        export_merged("smollm2", smollm2)
    facts = stored()
    expected = [row["output"] for row in rows.test]
    for name in given.only or PROGRAMS:
        missing = [each for each in PROGRAMS[name].packages if find_spec(each.partition(".")[0]) is None]
        if missing:
            print(f"{name}: skipped, because {', '.join(missing)} is not installed")
        elif name not in facts.get("programs", {}) or name in given.again:
            found = in_new_process(name, given.data, given.work)
            if found is not None:
                facts = stored()  # another run may have written in the meantime
                facts.setdefault("programs", {})[name] = found
                write(facts, expected)


def stored() -> dict[str, Any]:
    """Read the results of earlier runs."""
    return dict(json.loads(RESULTS.read_text(encoding="utf-8"))) if RESULTS.is_file() else {}


def in_new_process(name: str, data: Path, work: Path) -> dict[str, Any] | None:
    """Run a program in a new process; None if it fails, with the error on the terminal."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "found.json")
        command = [sys.executable, __file__, "--one", name, "--out", out, "--data", data, "--work", work]
        environment = {**os.environ, **ENVIRONMENT, "DSPY_CACHEDIR": folder}  # no answers of earlier runs
        done = subprocess.run(command, check=False, env=environment)
        if done.returncode:
            print(f"{name}: failed with exit status {done.returncode}")
            return None
        return dict(json.loads(out.read_text(encoding="utf-8")))


def versions() -> dict[str, str]:
    """Return the versions of the libraries that are installed."""
    modules = {"torch": "torch", "transformers": "transformers", "sentence_transformers": "sentence-transformers"}
    return {name: version(name) for module, name in {**modules, **PEERS}.items() if find_spec(module)}


def write(facts: dict[str, Any], expected: Sequence[str]) -> None:
    """Write all results so far."""
    programs = facts["programs"]
    facts.update(processor=REAL_MODELS["processor"](), cores=os.cpu_count(), k=K, test_rows=len(expected))
    facts["versions"] = {**facts.get("versions", {}), **versions()}
    facts["programs"] = {name: completed(programs[name], name, expected) for name in PROGRAMS if name in programs}
    facts["pairs"] = summary(programs, expected)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(facts["pairs"], indent=1))


if __name__ == "__main__":
    main()
