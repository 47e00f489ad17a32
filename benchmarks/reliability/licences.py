"""The licence of every package that constraints.txt pins and that is installed; ``make audit`` runs it.

Exits with 1 where a package says no licence, or one that is neither permissive nor weak copyleft (MPL).
"""

from __future__ import annotations

import sys
from collections import Counter
from importlib.metadata import PackageMetadata, PackageNotFoundError, metadata
from pathlib import Path

CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"
KNOWN = ("MPL", "Mozilla", "Apache", "BSD", "MIT", "ISC", "PSF", "Python Software Foundation", "Zlib", "CNRI", "CC0",
         "0BSD", "Unlicense", "HPND")  # fmt: skip
REFUSED = ("GPL", "General Public", "SSPL", "Proprietary", "Commercial")
NAMES = {"Mozilla": "MPL", "Python Software Foundation": "PSF"}


def licence_of(found: PackageMetadata) -> str:
    """What a package says of its licence.

    Returns:
        The expression, else the classifiers, else the first line of its free text; empty where it says nothing.
    """
    told = found.get("License-Expression")
    if not told:
        classifiers = [each for each in found.get_all("Classifier") or [] if each.startswith("License ::")]
        told = "; ".join(each.rsplit(" :: ", 1)[1] for each in classifiers if each != "License :: OSI Approved")
    if not told:
        lines = [line.strip() for line in (found.get("License") or "").splitlines()]
        told = next(filter(None, lines), "")
    return " ".join(told.split())


def families(licence: str) -> list[str]:
    """The families of licences that are named in a text; "refused" and "unknown" are families too."""
    if any(name in licence for name in REFUSED):
        return ["refused"]
    return sorted({NAMES.get(name, name) for name in KNOWN if name in licence}) or ["unknown"]


def main() -> None:
    """Print a line for each package, and how many have which licence."""
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    names = [line.partition("==")[0] for line in lines if "==" in line]
    counts: Counter[str] = Counter()
    bad: list[str] = []
    for name in names:
        try:
            found = metadata(name)
        except PackageNotFoundError:
            counts["not installed"] += 1
            continue
        licence = licence_of(found)
        family = " and ".join(families(licence))
        counts[family] += 1
        print(f"{name} {found['Version']}: {licence or 'says nothing'}")
        if family in {"refused", "unknown"}:
            bad.append(name)
    print(", ".join(f"{count} {family}" for family, count in counts.most_common()))
    if bad:
        sys.exit(f"look at the licences of {', '.join(bad)}")


if __name__ == "__main__":
    main()
