"""Faults of all kinds for a number of minutes: what is lost, what is silently wrong, what is noticed or recovered.

Every round runs in a process of its own, so that a crash or a hang is counted too. A round that went wrong is run again
by ``python benchmarks/reliability/run.py --replay SCENARIO:SEED``; what depends on the clock, such as where a kill
falls, may need a few of them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from time import monotonic

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.append(str(ROOT / "tests" / "helpers"))  # for the faults and servers that the tests use too
os.environ.update(OMP_WAIT_POLICY="PASSIVE", OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

import numpy as np  # noqa: E402 - after the settings that its threads read
from tally import OUTCOMES, Tally  # noqa: E402

RESULTS = HERE / "results" / "reliability.json"
LONGEST = 240  # seconds that a round may take
SCENARIOS = {
    "index-killed-writer": "index_faults:killed_writer",
    "index-full-disk": "index_faults:full_disk",
    "index-damaged-files": "index_faults:damaged_files",
    "index-threads": "index_faults:threads_of_one_process",
    "index-read-while-written": "index_faults:read_while_written",
    "models-http": "model_faults:http_faults",
    "models-killed-client": "model_faults:killed_client",
    "models-damaged-cache": "model_faults:damaged_cache",
    "models-full-disk": "model_faults:full_disk",
    "pearl-killed-run": "pearl_faults:killed_run",
    "pearl-damaged-trace": "pearl_faults:damaged_trace",
    "pearl-full-disk": "pearl_faults:full_disk",
    "comparison-killed": "comparison_faults:killed_comparison",
    "comparison-damaged-folder": "comparison_faults:damaged_folder",
    "comparison-full-disk": "comparison_faults:full_disk",
    "serve-vanishing-clients": "serve_faults:vanishing_clients",
}


def one_round(scenario: str, seed: int) -> Tally:
    """Run one round of a scenario in this process."""
    module, name = SCENARIOS[scenario].split(":")
    act: Callable[[np.random.Generator, Path, Tally], None] = getattr(import_module(module), name)
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder:
        try:
            act(np.random.default_rng(seed), Path(folder), tally)
        except Exception:  # noqa: BLE001 - whatever it is, it is counted
            tally.count(f"{scenario}: round", "unexplained", traceback.format_exc()[-3000:])
    return tally


def apart(scenario: str, seed: int, tally: Tally) -> bool:
    """Run one round in a process of its own and add what it counted.

    Returns:
        Whether all was well.
    """
    command = [sys.executable, str(HERE / "run.py"), "--replay", f"{scenario}:{seed}", "--json"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        out, said = process.communicate(timeout=LONGEST)
        found = json.loads(out.splitlines()[-1])
    except (subprocess.TimeoutExpired, ValueError, IndexError) as error:
        os.killpg(process.pid, signal.SIGKILL)
        out, said = process.communicate()
        story = f"{type(error).__name__}, exit code {process.returncode}: {said[-2000:]}"
        found = {"counts": {f"{scenario}: round": {"unexplained": 1}}, "stories": [story]}
    if "Traceback" in said:  # nobody waited for it, or it would have been counted
        found["counts"][f"{scenario}: log"] = {"unexplained": 1}
        found["stories"].append(said[-2000:])
    stories = [f"{scenario}:{seed}: {story}" for story in found["stories"]]
    tally.add(found["counts"], stories)
    for story in stories:
        print(story, flush=True)
    return not stories


def main() -> None:
    """Run rounds until the time is over, write the counts, and exit with 1 where anything was lost or wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=SCENARIOS, default=list(SCENARIOS), help="these scenarios")
    parser.add_argument("--replay", metavar="SCENARIO:SEED", help="one round, in this process")
    parser.add_argument("--json", action="store_true", help="with --replay: the counts as one line of JSON")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    if given.replay:
        scenario, _, seed = given.replay.rpartition(":")
        warnings.simplefilter("ignore")  # of broken files, which is what is tested
        tally = one_round(scenario, int(seed))
        print(json.dumps({"counts": tally.counts, "stories": tally.stories}) if given.json else _shown(tally))
        sys.exit(bool(tally.stories))
    tally, rounds, started = Tally(), dict.fromkeys(given.only, 0), monotonic()
    seeds = np.random.default_rng(given.seed)
    failed: list[str] = []
    while monotonic() - started < 60 * given.minutes:
        for scenario in given.only:
            if monotonic() - started >= 60 * given.minutes:
                break
            seed = int(seeds.integers(2**31))
            rounds[scenario] += 1
            if not apart(scenario, seed, tally):
                failed.append(f"{scenario}:{seed}")
    table = tally.table()
    totals = {name: sum(row[name] for row in table.values()) for name in ("injected", *OUTCOMES)}
    result = {
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()},
        "minutes": given.minutes,
        "seed": given.seed,
        "rounds": rounds,
        "totals": totals,
        "faults": table,
        "replay": failed,
    }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(_shown(tally), json.dumps(totals), sep="\n")
    for each in failed:
        print(f"again: python benchmarks/reliability/run.py --replay {each}")
    sys.exit(bool(failed))


def _shown(tally: Tally) -> str:
    rows = [
        f"{kind}: " + ", ".join(f"{n} {name}" for name, n in row.items() if n) for kind, row in tally.table().items()
    ]
    return "\n".join([*rows, *tally.stories])


if __name__ == "__main__":
    main()
