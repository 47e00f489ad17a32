"""Extraction with SmolLM2: how many calls return valid records, and how many records are quoted from the source.

    python benchmarks/rag_pearl/extraction.py [--passages 30]

The passages are those of SQuAD articles in ``retrieval/xquad_en`` of ``RAGKIT_DATA``, drawn with seed 0. Two variants
are measured: a quotation beside each record, and records whose fields must all occur in the source (``quotes=True``).
Whether a record is correct is not measured. The results go to ``results/extraction.json`` after each batch.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from random import Random
from time import perf_counter, process_time

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from pydantic import BaseModel, Field

from ragkit import Extract, load_model
from ragkit.pipelines import Extraction
from ragkit_pipelines.compare.statistics.tests import wilson

HERE = Path(__file__).parent
DATA = Path(os.environ.get("RAGKIT_DATA") or HERE.parents[1] / "../shared/data")
SEED, BATCH, MAX_RECORDS, MAX_TOKENS = 0, 10, 3, 192


class Fact(BaseModel):
    """A fact about a person, place or organisation."""

    name: str = Field(description="name of the person, place or organisation")
    fact: str = Field(description="what the passage says about it")


def passages(data: Path, count: int) -> list[str]:
    """Draw passages; the same for every run."""
    lines = (data / "retrieval" / "xquad_en" / "corpus.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"] for line in Random(SEED).sample(lines, count)]


def share(part: int, whole: int) -> dict[str, object]:
    """A share with its 95 % interval (Wilson)."""
    low, high = wilson(part, whole) if whole else (0.0, 1.0)
    return {"of": whole, "count": part, "share": part / whole if whole else None, "low": low, "high": high}


def measured(found: list[Extraction]) -> dict[str, object]:
    """The shares of calls and records, and examples of both."""
    kept, rejected = sum(map(len, found)), sum(len(each.rejected) for each in found)
    return {
        "calls_with_valid_records": share(sum(bool(each.items or each.rejected) for each in found), len(found)),
        "calls_with_records_quoted_from_the_source": share(sum(map(bool, found)), len(found)),
        "distinct_records_quoted_from_the_source": kept,
        "repeated_records_merged": sum(each.duplicates for each in found),
        "records_rejected": rejected,
        "records_quoted_from_the_source": share(kept, kept + rejected),
        "failures": [each.reason for one in found for each in one.failures],
        "completion_tokens": sum(each.usage.completion_tokens for each in found),
        "kept_examples": [item.record.model_dump() for each in found for item in each][:5],
        "rejected_examples": [[item.record.model_dump(), item.reason] for one in found for item in one.rejected][:5],
    }


def main() -> None:
    """Run both variants."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=int, default=30)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "extraction.json")
    given = parser.parse_args()
    texts, model = passages(given.data, given.passages), load_model("smollm2")
    facts: dict[str, object] = {
        "model": model.name,
        "seed": SEED,
        "max_records": MAX_RECORDS,
        "max_tokens": MAX_TOKENS,
        "retries": 0,
    }
    for name, quotes in (("quotation_beside_the_record", False), ("fields_are_quotations", True)):
        extract = Extract(model, Fact, quotes=quotes, max_records=MAX_RECORDS, max_tokens=MAX_TOKENS, retries=0)
        found: list[Extraction] = []
        wall, cpu = perf_counter(), process_time()
        for start in range(0, len(texts), BATCH):
            found += extract.batch(texts[start : start + BATCH])
            spent = {"wall_s": round(perf_counter() - wall, 1), "cpu_s": round(process_time() - cpu, 1)}
            facts[name] = {**measured(found), **spent}
            given.out.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            print(name, len(found), spent, flush=True)


if __name__ == "__main__":
    main()
