"""Damage every kind of folder that ragkit writes, at random, then open it in the default mode and use all of it.

Each damaged copy must give the answers of the whole folder, or a `RagkitError` that names the file or its folder.
``python benchmarks/reliability/damaged_folders.py`` writes ``results/damaged_folders.json``. Each kind runs in a
process of its own, so that a crash is counted too.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.append(str(ROOT / "tests" / "helpers"))  # for the folders and the damage that the tests use too
os.environ.update(OMP_WAIT_POLICY="PASSIVE", OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

import numpy as np  # noqa: E402 - after the settings that its threads read
from faults import DAMAGES  # noqa: E402
from stored_folders import KINDS, Kind  # noqa: E402

from ragkit.errors import RagkitError  # noqa: E402

RESULTS = HERE / "results" / "damaged_folders.json"
SHARES = {"adapter": 0.25}  # of the copies of another kind, as loading a model takes a second
GOOD = ("right", "noticed")


def outcome_of(kind: Kind, whole: Path, copy: Path, expected: object, seed: int) -> tuple[str, str]:
    """Damage one file of a copy and use the copy.

    Args:
        kind: What the folder is.
        whole: The folder as it was written.
        copy: Where to copy it.
        expected: The answers of the whole folder.
        seed: Decides which file is damaged and how.

    Returns:
        ``"right"``, ``"noticed"``, ``"wrong"``, ``"unnamed"`` (an error that does not name the file) or
        ``"unexplained"`` (another exception), and what happened.
    """
    rng = np.random.default_rng(seed)
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(whole, copy)
    files = sorted(path for path in copy.rglob("*") if path.is_file() and path.stat().st_size)
    path, damage = files[int(rng.integers(len(files)))], str(rng.choice([*DAMAGES, "file removed"]))
    if damage in DAMAGES:
        path.write_bytes(DAMAGES[damage](path.read_bytes(), rng))
    else:
        path.unlink()
    story = f"seed {seed}, {damage}, {path.relative_to(copy)}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = kind.use(copy)
    except RagkitError as error:
        named = path.name in str(error) or str(copy) in str(error)
        return "noticed" if named else "unnamed", f"{story}: {error!r}"
    except Exception:  # noqa: BLE001 - whatever it is, it is counted
        return "unexplained", f"{story}: {traceback.format_exc()[-1500:]}"
    return ("right", story) if found == expected else ("wrong", story)


def run(name: str, copies: int, seed: int) -> dict[str, object]:
    """Damage copies of one kind of folder in this process.

    Returns:
        The number of copies by outcome, and the stories of the bad ones.
    """
    counts: Counter[str] = Counter()
    stories = []
    with tempfile.TemporaryDirectory() as folder:
        kind, whole, copy = KINDS[name], Path(folder) / "whole", Path(folder) / "copy"
        kind.make(whole)
        shutil.copytree(whole, copy)
        expected = kind.use(copy)
        for number in range(copies):
            outcome, story = outcome_of(kind, whole, copy, expected, seed + number)
            counts[outcome] += 1
            if outcome not in GOOD:
                stories.append(f"{name}: {outcome}: {story}")
    return {"counts": counts, "stories": stories}


def main() -> None:
    """Run all kinds, write the counts, and exit with 1 if a copy was used wrongly."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--copies", type=int, default=2000, help="in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--one", choices=KINDS, help="run one kind in this process and print its counts as JSON")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(run(given.one, given.copies, given.seed)))
        return
    shares = {name: SHARES.get(name, 1.0) for name in given.only}
    found, stories = {}, []
    for name, share in shares.items():
        copies = round(given.copies * share / sum(shares.values()) + 0.5)
        line = [sys.executable, __file__, "--one", name, "--copies", str(copies), "--seed", str(given.seed)]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        if done.returncode:
            stories.append(f"{name}: the process ended with {done.returncode}: {done.stderr[-2000:]}")
            found[name] = {"copies": copies, "crashed": 1}
        else:
            told = json.loads(done.stdout.splitlines()[-1])
            found[name] = {"copies": copies, **told["counts"]}
            stories += told["stories"]
        print(name, found[name], flush=True)
    print("\n".join(stories))
    outcomes = (*GOOD, "wrong", "unnamed", "unexplained", "crashed")
    totals = {name: sum(counts.get(name, 0) for counts in found.values()) for name in ("copies", *outcomes)}
    print(totals)
    result = {
        "machine": {"processor": processor(), "cores": os.cpu_count(), "python": platform.python_version()},
        "seed": given.seed,
        "totals": totals,
        "kinds": found,
        "stories": stories,
    }
    given.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    sys.exit(bool(stories))


def processor() -> str:
    """The name of the processor, as Linux and macOS tell it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()
