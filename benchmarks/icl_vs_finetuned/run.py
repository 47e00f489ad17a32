"""The comparison that the library exists for, on the embedded default and on public data where they are at hand.

    python benchmarks/icl_vs_finetuned/run.py                     every case
    python benchmarks/icl_vs_finetuned/run.py --quick geoquery scan trec6

The cases are in ``cases.py``; one whose data are missing is left out, with the reason. Results go to
``results/*.json``; ``python benchmarks/update_readme.py`` makes the README's tables from them. ``--quick`` takes fewer
test rows, smaller pools and one seed, and writes ``results/<case>-quick.json``. A run that was stopped goes on.
The generative arms run on the tiny model that ships with ragkit: that shows that the parts work together, and nothing
about large models.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from rich.console import Console

from ragkit import compare
from ragkit.comparison import CompareOptions

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from cases import CASES, MissingDataError, Settings, settings_of  # noqa: E402 - a neighbour, not a package

DATA = Path(os.environ.get("RAGKIT_DATA") or HERE.parents[1] / "../shared/data")


def run(settings: Settings, label: str, work: Path) -> None:
    """Compare, show, and write the results."""
    result = compare(
        settings.task,
        settings.strategies,
        sizes=settings.sizes,
        seeds=settings.seeds,
        model=settings.model,
        out=work / label,
        options=CompareOptions(notes={"judged": settings.judged}),
    )
    Console(width=140).print(result.table(), result.recommendation)
    for row in result.results.rows:
        if row.error:
            print(f"{row.strategy} failed: {row.error}")
    results = HERE / "results" / f"{label}.json"
    results.parent.mkdir(exist_ok=True)
    results.write_text(result.results.model_dump_json(indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="case", help=f"of {', '.join(CASES)}; all if none is named")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the data; RAGKIT_DATA if not given")
    parser.add_argument("--work", type=Path, default=Path("runs/icl_vs_finetuned"), help="where runs go on from")
    parser.add_argument("--quick", action="store_true", help="few test rows, smaller pools, one seed")
    given = parser.parse_args()
    if unknown := [name for name in given.cases if name not in CASES]:
        parser.error(f"unknown: {', '.join(unknown)}; expected some of {', '.join(CASES)}")
    for name in given.cases or CASES:
        try:
            settings = settings_of(name, given.data, quick=given.quick)
        except MissingDataError as reason:
            print(f"{name} is left out: {reason}", file=sys.stderr)
            continue
        run(settings, f"{name}-quick" if given.quick else name, given.work)


if __name__ == "__main__":
    main()
