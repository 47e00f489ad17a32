"""Attack every promise of ``docs/security.md``, and write what held to ``results/attack.json``.

``python benchmarks/reliability/attack.py`` runs the attacks of ``attacks/*.py``; ``... attack.py serving`` runs those
of one module. Each attack runs in a process of its own, whose time and peak memory are measured. The exit code is 1 if
a promise was broken.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "attacks"), str(HERE.parents[1] / "tests" / "helpers")]
os.environ.update(OMP_WAIT_POLICY="PASSIVE", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

from attack_case import Attack  # noqa: E402 - after the path it is found on

RESULTS = HERE / "results" / "attack.json"
AREAS = sorted(path.stem for path in (HERE / "attacks").glob("*.py") if path.stem != "attack_case")
STARTUP_SECONDS = 30  # importing ragkit and its libraries in a new process


def attacks_of(area: str) -> list[Attack]:
    """Return the attacks of one module of ``attacks/``."""
    attacks: list[Attack] = importlib.import_module(area).ATTACKS
    names = [attack.name for attack in attacks]
    assert len(set(names)) == len(names), f"{area} has two attacks of the same name"
    return attacks


def run_here(area: str, name: str) -> dict[str, object]:
    """Run one attack in this process, and measure its time and the peak memory of this process and its children."""
    attack = next(attack for attack in attacks_of(area) if attack.name == name)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        broken = attack.run(Path(folder))
        seconds = time.perf_counter() - start
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1024
    if not broken and peak > attack.memory_mib:
        broken = f"used {peak:.0f} MiB, more than {attack.memory_mib}"
    if not broken and seconds > attack.seconds:
        broken = f"took {seconds:.1f} s, more than {attack.seconds:g}"
    return {"seconds": round(seconds, 2), "peak_mib": round(peak), "broken": broken}


def run(area: str, attack: Attack) -> dict[str, object]:
    """Run one attack in a new process."""
    command = [sys.executable, __file__, "--one", area, attack.name]
    row: dict[str, object] = {"area": area, "attack": attack.name, "promise": attack.promise}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=attack.seconds + STARTUP_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return {**row, "broken": f"did not end within {attack.seconds:g} s"}
    if done.returncode:
        return {**row, "broken": f"exit code {done.returncode}: {done.stderr[-800:]}"}
    return {**row, **json.loads(done.stdout.splitlines()[-1])}


def processor() -> str:
    """Return the name of this machine's processor."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def main() -> int:
    """Run the attacks that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("areas", nargs="*", help=f"modules of attacks/ (default: all): {', '.join(AREAS)}")
    parser.add_argument("--one", nargs=2, metavar=("AREA", "NAME"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(run_here(*options.one)))
        return 0
    rows = []
    for area in options.areas or AREAS:
        for attack in attacks_of(area):
            rows.append(row := run(area, attack))
            print(f"{'BROKEN' if row['broken'] else 'held':<7}{area}: {attack.name}  {row['broken']}", flush=True)
    broken = sum(bool(row["broken"]) for row in rows)
    print(f"{len(rows)} attacks, {broken} broken promises")
    if not options.areas:
        machine = {"processor": processor(), "python": platform.python_version()}
        RESULTS.write_text(
            json.dumps({**machine, "broken": broken, "attacks": rows}, indent=1) + "\n", encoding="utf-8"
        )
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
