"""Load folders in which somebody changed values on purpose, for a number of minutes.

``python benchmarks/reliability/hostile_folders.py --minutes 30`` makes every kind of folder and file that ragkit loads,
replaces values by hostile ones (with the right checksums, in half of the copies), and loads and uses the copies. Only a
result or a `RagkitError` is right: no other exception, no crash, no file outside the copy, no import of a module that a
file names, and limited time and memory. ``--replay KIND SEED`` repeats one copy with its traceback.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from random import Random

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "tests" / "helpers")]
os.environ.update(OMP_WAIT_POLICY="PASSIVE", OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

from foreign_folders import FOREIGN  # noqa: E402 - after the settings that its threads read
from mutations import TRAP, make_checksums_anew, mutate  # noqa: E402

from ragkit.errors import RagkitError  # noqa: E402

RESULTS = HERE / "results" / "hostile_folders.json"
SECONDS = 30  # of one copy
MEMORY = 3 * 2**30  # bytes of address space in addition to those after the first use
ALLOWED = 2**30  # bytes of resident memory in addition to those after the first use
GOOD = ("loaded", "refused")
TRAP_CODE = "from pathlib import Path\nPath(__file__).with_suffix('.ran').touch()\ndef run(*_, **__): pass\n"


class Overdue(Exception):  # noqa: N818 - not an error of the program
    """A copy took too long."""


class Scratch:
    """The folders of a run; whatever appears beside the copy was written outside."""

    def __init__(self, folder: Path) -> None:
        """Create the folders, and the module that must not be imported."""
        self.folder, self.whole, self.copy = folder, folder / "whole", folder / "copy"
        for name in ("home", "work", "tmp", "cache", "trap"):
            (folder / name).mkdir(exist_ok=True)
        (folder / "trap" / f"{TRAP}.py").write_text(TRAP_CODE, encoding="utf-8")
        sys.path.append(str(folder / "trap"))
        os.environ.update(HOME=str(folder / "home"), TMPDIR=str(folder / "tmp"))
        os.chdir(folder / "work")
        self.before = self.listed()

    def listed(self) -> set[str]:
        """Return the files outside the copy, the cache and the temporary folder."""
        apart = {self.whole, self.copy, self.folder / "cache", self.folder / "tmp"}
        return {
            str(path.relative_to(self.folder))
            for path in self.folder.rglob("*")
            if not apart & {path, *path.parents} and "__pycache__" not in path.parts and ".cache" not in path.parts
        }


def outcome_of(name: str, scratch: Scratch, seed: int) -> tuple[str, str]:
    """Change a copy, and use it.

    Args:
        name: The kind of folder.
        scratch: The folders.
        seed: Decides what changes.

    Returns:
        ``"loaded"``, ``"refused"`` (a `RagkitError`), ``"unexplained"`` (another exception), ``"slow"``, ``"memory"``,
        ``"outside"`` or ``"code ran"``; and what happened.
    """
    rng = Random(seed)
    shutil.rmtree(scratch.copy, ignore_errors=True)
    shutil.copytree(scratch.whole, scratch.copy)
    files = sorted(path for path in scratch.copy.rglob("*") if path.is_file() and path.stat().st_size)
    small = [path for path in files if path.suffix in {".json", ".jsonl"}]
    path = rng.choice(small if small and rng.random() < 0.6 else files)
    old = path.read_bytes()
    story = f"--replay {name!r} {seed}: {path.relative_to(scratch.copy)} {mutate(path, rng)}"
    if rng.random() < 0.5:
        make_checksums_anew(scratch.copy, old, path.read_bytes())
    outcome = "loaded"
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak is that of the use, not of the change
    allowed = memory("VmRSS") + ALLOWED + 3 * path.stat().st_size  # some changes make a file of hundreds of MiB
    signal.alarm(SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            FOREIGN[name].use(scratch.copy)
    except RagkitError as error:
        outcome, story = "refused", f"{story}: {str(error)[:200]}"
    except Overdue:
        outcome, story = "slow", f"{story}: {traceback.format_exc()[-1200:]}"
    except Exception:  # noqa: BLE001 - whatever it is, it is counted
        outcome, story = "unexplained", f"{story}: {traceback.format_exc()[-2500:]}"
    finally:
        signal.alarm(0)
    if (scratch.folder / "trap" / f"{TRAP}.ran").exists():
        (scratch.folder / "trap" / f"{TRAP}.ran").unlink()
        return "code ran", story
    if outside := scratch.listed() - scratch.before:
        scratch.before |= outside
        return "outside", f"{story}: {sorted(outside)[:5]}"
    if memory("VmHWM") > allowed:
        return "memory", story
    return outcome, story


def memory(name: str) -> int:
    """Return a figure of this process's memory in bytes, as Linux calls it."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024


def overdue(*_: object) -> None:
    """End a copy that takes too long."""
    raise Overdue


def prepared(name: str, folder: Path) -> Scratch:
    """Make a folder of a kind and use it once, then limit the memory of this process."""
    scratch = Scratch(folder)
    signal.signal(signal.SIGALRM, overdue)
    if not scratch.whole.exists():
        FOREIGN[name].make(scratch.whole)
    shutil.copytree(scratch.whole, scratch.copy, dirs_exist_ok=True)
    FOREIGN[name].use(scratch.copy)
    scratch.before |= scratch.listed()
    size = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    return scratch


def run(name: str, folder: Path, seconds: float, seed: int) -> None:
    """Change copies of one kind in this process, and print a line of JSON for each."""
    scratch = prepared(name, folder)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        print(json.dumps({"begun": seed}), flush=True)
        outcome, story = outcome_of(name, scratch, seed)
        print(json.dumps({"outcome": outcome, "story": story if outcome not in GOOD else ""}), flush=True)
        seed += 1
        if outcome in {"memory", "slow"}:  # the next copies would be blamed too
            return


def run_kind(name: str, folder: Path, seconds: float, seed: int) -> tuple[Counter[str], list[str]]:
    """Run one kind in child processes until its time is over; a process that crashes is counted and replaced."""
    counts: Counter[str] = Counter()
    stories: list[str] = []
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        line = [sys.executable, __file__, "--one", name, str(folder), str(left), str(seed)]
        try:
            done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=left + 300)
            output, code, errors = done.stdout, done.returncode, done.stderr
        except subprocess.TimeoutExpired as error:
            output, code, errors = (error.stdout or b"").decode(), 1, "it did not end"
        rows = [json.loads(row) for row in output.splitlines() if row.startswith(('{"begun"', '{"outcome"'))]
        for row in rows:
            if "outcome" in row:
                counts[row["outcome"]] += 1
                stories += [f"{row['outcome']}: {row['story']}"] if row["story"] else []
        seeds = [row["begun"] for row in rows if "begun" in row]
        if code:
            counts["crashed"] += 1
            stories.append(f"crashed: --replay {name!r} {seeds[-1] if seeds else 'before the first'}: {errors[-1500:]}")
            if not seeds:
                break
        seed = seeds[-1] + 1
    return counts, stories


def main() -> None:
    """Run all kinds in turn, write the counts, and exit with 1 if a copy did harm."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0, help="in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=FOREIGN, default=list(FOREIGN))
    parser.add_argument("--replay", nargs=2, metavar=("KIND", "SEED"))
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    if given.one:
        name, folder, seconds, seed = given.one
        run(name, Path(folder), float(seconds), int(seed))
        return
    with tempfile.TemporaryDirectory() as folder:
        if given.replay:
            scratch = prepared(given.replay[0], Path(folder))
            print(*outcome_of(given.replay[0], scratch, int(given.replay[1])))
            return
        kinds, stories = {}, []
        for number, name in enumerate(given.only):
            place = Path(folder) / str(number)
            place.mkdir()
            counts, told = run_kind(name, place, given.minutes * 60 / len(given.only), given.seed)
            kinds[name], stories = dict(counts), stories + told
            print(name, dict(counts), flush=True)
            print("\n".join(told), flush=True)
    result = {"seed": given.seed, "minutes": given.minutes, "kinds": kinds, "stories": stories}
    given.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    sys.exit(bool(stories))


if __name__ == "__main__":
    main()
