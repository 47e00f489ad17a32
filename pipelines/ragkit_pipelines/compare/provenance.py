"""Where results come from: versions, settings, data and the revision of the code around them."""

from __future__ import annotations

import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version

_PACKAGES = ("numpy", "scipy", "scikit-learn", "torch", "transformers", "peft", "trl", "faiss-cpu", "faiss-gpu")


def surroundings() -> dict[str, str]:
    """Versions of what computes, and the git revision of the working directory where there is one.

    Returns:
        A mapping of names to versions; nothing in it names a user, a machine or a key.
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
