"""Fuzz the readers of text from users and models with atheris, which is guided by coverage.

``tests/security/test_fuzz.py`` is the quick version of this script.

``pip install atheris``, then ``python benchmarks/reliability/fuzz.py --seconds 300``. Each target runs in a process of
its own; what breaks it is written to ``--crashes`` and shown, and ``--target NAME FILE`` runs it again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

os.environ.update(OMP_WAIT_POLICY="PASSIVE", OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1")

import atheris

with atheris.instrument_imports(include=["ragkit", "ragkit_selectors", "ragkit_pipelines"]):
    from ragkit import ScriptedModel, Task, load_documents
    from ragkit._files import with_checksum
    from ragkit.comparison import Recommendation, Results
    from ragkit.errors import RagkitError
    from ragkit.finetuning._manifest import MANIFEST, Manifest
    from ragkit.index._document_inputs import read_documents
    from ragkit.ingest import MarkdownChunker
    from ragkit.models import ReplayModel
    from ragkit.pearl import ActionLibrary, Plan, Router
    from ragkit.records import span_of
    from ragkit.where import matches, parse_where
    from ragkit_pipelines.cli.common import read_filter
    from ragkit_pipelines.cli.documents import read_rows
    from ragkit_pipelines.compare.predictions import Items
    from ragkit_pipelines.compare.results import Cell, make_row, read_cell
    from ragkit_pipelines.compare.strategies.named import load_strategy
    from ragkit_pipelines.pearl.plan.library import read_demonstrations
    from ragkit_pipelines.pearl.run.events import read_events
    from ragkit_selectors.loading import load_stage

FOLDER = Path(tempfile.mkdtemp())
ACTIONS = "PICK(CTX, LIST) # Pick one.\nFIND(CTX, X) # Find X.\nCONCAT(S1, S2, ...) # Join texts.\n"
LIBRARY = ActionLibrary.from_text(ACTIONS)
PLAN = 'New actions:\n- None\n\n1. ship = FIND(CTX, "the ship") : Find it\n2. ans = CONCAT(ship, "b") : Join'


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape" if data[:1] == b"\x00" else "replace")


def _written(data: bytes, name: str) -> Path:
    path = FOLDER / name
    path.write_bytes(data)
    return path


def _sealed(data: bytes) -> bytes:
    """Lines with the checksums that whoever writes them on purpose would give them."""
    lines = data.decode("utf-8", "replace").split("\n")
    return "\n".join(with_checksum(line) if line.endswith("}") and len(line) > 2 else line for line in lines).encode()


def plans(data: bytes) -> None:
    """A plan that is read is written and read again as the same."""
    plan = Plan.parse(_text(data[1:]), LIBRARY, repair=data[:1] > b"\x80")
    assert Plan.parse(plan.render(), LIBRARY).steps == plan.steps
    assert Plan.from_json(plan.to_json()).steps == plan.steps
    plan.mermaid()


def plan_json(data: bytes) -> None:
    """Plans and libraries as JSON."""
    plan = Plan.from_json(_text(data))
    assert len(plan.depths) == len(plan.steps)
    plan.render()


def libraries(data: bytes) -> None:
    """Lists of actions, and demonstrations."""
    library = ActionLibrary.from_text(_text(data))
    assert ActionLibrary.from_text(library.to_text()).actions == library.actions
    read_demonstrations(_text(data), LIBRARY)


def filters(data: bytes) -> None:
    """Filters of the command line, applied."""
    condition = parse_where(read_filter(_text(data)))
    assert matches(condition, {"a": 1, "b": ["x", 2.5], "": None}) in {True, False}


def specs(data: bytes) -> None:
    """Specs of stages and strategies; those that would open a folder or a network are left to the tests."""
    for load in (load_stage, load_strategy):
        try:
            load(_text(data))
        except RagkitError:
            continue


def tasks(data: bytes) -> None:
    """Tasks and documents in JSON lines."""
    path = _written(data, "task.jsonl")
    with suppress(RagkitError):
        Task.from_jsonl(path).leaks()
    read_documents(list(read_rows(path, "text")), 0)


def files(data: bytes) -> None:
    """Files of all kinds: their pieces are parts of their texts."""
    for suffix in (".html", ".csv", ".tsv", ".md", ".jsonl"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = load_documents(_written(data, f"file{suffix}"))
        for document in loaded:
            start = span_of(document.metadata)[0]
            for piece in MarkdownChunker(50, 9).chunk(document):
                first, last = span_of(piece.metadata)
                assert document.text[first - start : last - start] == piece.text


def replays(data: bytes) -> None:
    """Recorded answers."""
    model = ReplayModel(_written(data, "replay.jsonl"))
    assert model.fingerprint
    model.generate("one", stop=["x"])


def traces(data: bytes) -> None:
    """Traces of PEARL, as they are and with right checksums."""
    with suppress(RagkitError):
        read_events(_written(data, "trace.jsonl"))
    read_events(_written(_sealed(data), "trace.jsonl"))


def results(data: bytes) -> None:
    """Results, items and cells of comparisons, and routers."""
    path = _written(data, "results.json")
    for read in (Results.load, Router.load):
        try:
            read(path)
        except RagkitError:
            continue
    read_cell(_written(_sealed(data), "cell.json"), "k")
    _written(data, "items.json")
    Items.load(FOLDER)


def manifests(data: bytes) -> None:
    """Manifests of fine-tuning."""
    _written(data, MANIFEST)
    Manifest.read(FOLDER)


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (plans, plan_json, libraries, filters, specs, tasks, files, replays, traces, results, manifests)
}


def seeds(name: str) -> list[bytes]:
    """What a target begins with."""
    replay = FOLDER / "recording.jsonl"
    ReplayModel(replay, record_from=ScriptedModel(lambda _: "a")).generate(["one", "two"], stop=["x"])
    row = make_row(strategy="s", model=None, size=1, seed=0, n=1, correct=1.0, prompt_tokens=1, completion_tokens=1,
                   seconds=0.1, fit_seconds=0.1, cost=None)  # fmt: skip
    found = {
        "plans": [b"\x00" + PLAN.encode(), b"\xff" + PLAN.encode()],
        "plan_json": [Plan.parse(PLAN, LIBRARY).to_json().encode()],
        "libraries": [ACTIONS.encode(), f"Question: what?\n{PLAN}".encode()],
        "filters": [b'{"a": {"$gte": 20}, "$or": [{"b": "x"}, {"c": {"$in": [1, null]}}]}', b'{"$not": {"a": 1}}'],
        "specs": [b"mmr:0.7", b"few-shot:bm25 | guard | label-nearest", b"token-limit:9", b"lora+few-shot:jaccard"],
        "tasks": [
            b'{"input": "dim it", "output": "dim", "split": "train"}\n{"input": {"q": "x"}, "output": "y"}\n',
            b'{"text": "more", "id": "x", "tags": [1.5]}\n',
        ],
        "files": [
            '<meta http-equiv="content-type" content="text/html; charset=gbk"><p>红色的灯 a_b</p>'.encode("gbk"),
            b"text,lang\n\"He wrote; 'stop'; and left\",en\n",
            b'{"_id":"d1","text":"a","source":"https://example.org"}\n{"id":"d1","text":"b"}\n',
            "---\ntitle: L\n---\r\n\r\n# नि\r\r红色。灯e\u0301\n".encode(),
        ],
        "replays": [replay.read_bytes()],
        "traces": [
            b'{"event":"document","hash":"abc","text":"some text"}\n',
            b'{"event":"end","run":1,"status":"done","answer":"a"}\n',
        ],
        "results": [
            Results(
                task="t", leaked_test_rows=0, rows=[row], pairs=[], differences=[],
                recommendation=Recommendation(strategy="s", evidence="e"),
            ).model_dump_json().encode(),
            Cell(key="k", row=row, answers=["a"], scores=[1.0]).model_dump_json().encode(),
            b'{"weights": {"words": 0.5}, "bias": 0.1, "threshold": 0.5, "reads_plan": false}',
        ],
        "manifests": [json.dumps({"kind": "classifier", "form": "head", "method": "classifier-head"}).encode()],
    }  # fmt: skip
    return found[name]


def guarded(target: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """A target for which ragkit's own errors are right answers."""

    def run(data: bytes) -> None:
        try:
            target(data)
        except RagkitError:
            return

    return run


def one(name: str, arguments: list[str]) -> None:
    """Fuzz one target in this process; it does not return."""
    atheris.Setup([sys.argv[0], *arguments], guarded(TARGETS[name]))
    atheris.Fuzz()


def main() -> None:
    """Fuzz each target for some seconds, and exit with 1 where one broke."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=120, help="for each target")
    parser.add_argument("--only", nargs="*", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--crashes", type=Path, default=Path(tempfile.gettempdir()) / "ragkit-crashes")
    parser.add_argument("--target", nargs="*", metavar="NAME, then arguments of libFuzzer", default=[])
    given, rest = parser.parse_known_args()
    if given.target:
        one(given.target[0], [*given.target[1:], *rest])
    given.crashes.mkdir(parents=True, exist_ok=True)
    broken = []
    for name in given.only:
        with tempfile.TemporaryDirectory() as folder:
            corpus = Path(folder) / "corpus"
            corpus.mkdir()
            for number, seed in enumerate(seeds(name)):
                (corpus / str(number)).write_bytes(seed)
            line = [sys.executable, __file__, "--target", name, str(corpus), f"-max_total_time={given.seconds}",
                    "-timeout=20", "-max_len=4096", f"-artifact_prefix={given.crashes}/{name}-"]  # fmt: skip
            done = subprocess.run(
                line, capture_output=True, text=True, errors="replace", check=False, env=os.environ | {"TMPDIR": folder}
            )
        last = [text for text in done.stderr.splitlines() if text.startswith(("#", "stat::", "Done"))][-1:]
        print(f"{name}: exit code {done.returncode}; {' '.join(last)}", flush=True)
        if done.returncode:
            broken.append(name)
            print(done.stderr[-3000:], flush=True)
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
