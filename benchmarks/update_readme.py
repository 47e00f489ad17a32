"""Make the README's tables from the committed results, between their markers. ``--check`` only says if they are."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from ragkit_pipelines.compare.results import Results

ROOT = Path(__file__).parents[1]
TABLES = {
    "demo": "benchmarks/icl_vs_finetuned/results/demo.json",
    "banking77": "benchmarks/icl_vs_finetuned/results/banking77.json",
    "tiny": "benchmarks/tiny/results/tiny.json",
}


def table(name: str) -> str:
    text = (ROOT / TABLES[name]).read_text(encoding="utf-8")
    if name == "tiny":
        return tiny_table(json.loads(text)["rows"])
    results = Results.model_validate_json(text)
    n = max(row.n for row in results.rows)
    tests = f"{n} test rows; {results.leaked_test_rows} more stood in the pool and were removed"
    advice = results.recommendation
    return f"{results.markdown()}\n\n{tests}. Recommendation: {advice.strategy or 'none'}. {advice.evidence}."


def tiny_table(rows: list[dict[str, float]]) -> str:
    lines = ["| asked with | exact match | 95 % interval | ceiling | queries |", "|-|-|-|-|-|"]
    for row in rows:
        low, high = row["interval"]  # type: ignore[misc]
        ceiling = "" if row["ceiling"] is None else f"{row['ceiling']:.3f}"
        lines.append(f"| {row['arm']} | {row['score']:.3f} | {low:.3f} to {high:.3f} | {ceiling} | {row['n']} |")
    return "\n".join(lines)


def updated(text: str) -> str:
    for name in TABLES:
        if (ROOT / TABLES[name]).is_file():
            block = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
            text = block.sub(lambda found, name=name: found[1] + table(name) + "\n" + found[2], text)  # type: ignore[misc]
    return text


def main() -> None:
    stale = []
    for path in (ROOT / "README.md", ROOT / "ragkit/tiny/weights/README.md"):
        old = path.read_text(encoding="utf-8")
        new = updated(old)
        if new != old:
            stale.append(path.name)
            if "--check" not in sys.argv:
                path.write_text(new, encoding="utf-8")
    if stale and "--check" in sys.argv:
        sys.exit(f"out of date: {stale}; run python benchmarks/update_readme.py")


if __name__ == "__main__":
    main()
