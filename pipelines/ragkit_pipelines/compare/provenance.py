"""Provenance of results: what was compared, with which models and seeds, versions of packages, and the git revision."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from ragkit.metrics import fingerprint_of

if TYPE_CHECKING:
    from ragkit.protocols import Embedder, LanguageModel
    from ragkit.tasks import Task
    from ragkit_pipelines.compare.documents import Library
    from ragkit_pipelines.compare.strategies.base import Strategy, Varied

_PACKAGES = ("numpy", "scipy", "scikit-learn", "torch", "transformers", "peft", "trl", "faiss-cpu", "faiss-gpu")


def provenance_of(
    task: Task,
    strategies: Sequence[Strategy],
    model: LanguageModel | None,
    embedder: Embedder,
    *,
    sizes: Sequence[int | None],
    seeds: Sequence[int],
    held: Mapping[Varied, int],
    library: Library | None,
    day: str,
    notes: Mapping[str, str],
) -> dict[str, str]:
    """Return the entries of ``run.json``. They contain no names of users or machines, and no keys."""
    return {
        "date": day,
        **_environment(),
        "data": task.fingerprint,
        "strategies": json.dumps([strategy.name for strategy in strategies]),
        "sizes": json.dumps(list(sizes)),
        "seeds": json.dumps(list(seeds)),
        **({"held": json.dumps(held)} if held else {}),
        "metric": fingerprint_of(task.metric),
        **({"model_name": model.name} if model else {}),
        "model": model.fingerprint if model else "none",
        "embedder_name": embedder.name,
        "embedder": embedder.fingerprint,
        **({} if library is None else {"documents": library.fingerprint}),
        **notes,
    }


def _environment() -> dict[str, str]:
    """Return the versions of relevant packages, and the git revision of the working directory if it has one."""
    import ragkit

    found = {"processor": _processor(), "ragkit": ragkit.__version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    revision = _git("rev-parse", "HEAD")
    if revision:
        # The configuration of a foreign repository can name programs that `status` would run.
        runs = _git("config", "--local", "--includes", "--name-only", "--get-regexp", r"^(filter\.|core\.fsmonitor$)")
        changed = "" if runs else _git("status", "--porcelain", "--untracked-files=no", "--ignore-submodules=all")
        found["git"] = revision + ("+changes" if changed else "")
    return found


def _processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the name of the processor, which on Linux only this file has, or else its architecture."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(filter(None, named), "") or platform.processor() or platform.machine()


def _git(*arguments: str) -> str:
    program = shutil.which("git")
    if program is None:
        return ""
    try:
        done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=10, check=False)  # noqa: S603
    except (OSError, UnicodeDecodeError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
