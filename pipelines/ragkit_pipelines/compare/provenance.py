"""Provenance of results: versions of packages, and the git revision."""

from __future__ import annotations

import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version

_PACKAGES = ("numpy", "scipy", "scikit-learn", "torch", "transformers", "peft", "trl", "faiss-cpu", "faiss-gpu")


def environment() -> dict[str, str]:
    """Return the versions of the relevant packages, and the git revision of the working directory if it has one.

    Returns:
        A mapping of names to versions; it contains no names of users or machines, and no keys.
    """
    import ragkit

    found = {"ragkit": ragkit.__version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    revision = _git("rev-parse", "HEAD")
    if revision:
        found["git"] = revision + ("+changes" if _git("status", "--porcelain", "--untracked-files=no") else "")
    return found


def _git(*arguments: str) -> str:
    program = shutil.which("git")
    if program is None:
        return ""
    try:
        done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=10, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
