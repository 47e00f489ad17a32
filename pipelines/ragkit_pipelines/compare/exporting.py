"""Export the answers of a comparison, one line per answer, for other programs: CSV, Parquet, and TREC runs."""

from __future__ import annotations

import csv
from io import StringIO
from pathlib import Path
from typing import Literal, get_args
from urllib.parse import quote

from ragkit._extras import require
from ragkit._files import make_folder, write_atomic
from ragkit.errors import InvalidInputError, UnknownSpecError
from ragkit.evaluation._trec import write_run
from ragkit_pipelines.compare.predictions import Answers, Items
from ragkit_pipelines.compare.private import file_name

Format = Literal["csv", "parquet", "trec"]
FORMATS: tuple[Format, ...] = get_args(Format)


def export_items(items: Items, path: str | Path, *, format: Format) -> list[Path]:  # noqa: A002
    """Write the answers of a comparison to a file or a folder.

    Args:
        items: The test rows with all answers: `Comparison.items`, or ``Items.load(folder)``.
        path: The file, or the folder for ``"trec"``; existing files are replaced.
        format: ``"csv"`` or ``"parquet"`` for a table with the columns of ``Items.to_pandas``, one line per answer;
            Parquet requires pyarrow. ``"trec"`` for a folder with one run per strategy, pool size and seed, and
            ``qrels.txt``. In these, each test row is a query (``row-0``, ``row-1``, …), and its answer is the only
            document that was retrieved, with the confidence as its score, or 1; empty answers are omitted. The expected
            output is the relevant document. Answers are percent-encoded, because names in these files cannot contain
            white space.

    Returns:
        The files that were written.

    Raises:
        InvalidInputError: If there are no answers.
        UnknownSpecError: If the format is not one of the three.
        MissingExtraError: If pyarrow is required but not installed.
    """
    if format not in FORMATS:
        raise UnknownSpecError("export format", str(format), FORMATS)
    if not items.answers:
        raise InvalidInputError("the comparison has no answers to export, because no strategy finished")
    path = Path(path)
    if format == "trec":
        return _trec(items, path)
    records = items.records()
    if format == "csv":
        text = StringIO()
        writer = csv.DictWriter(text, list(records[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
        write_atomic(path, text.getvalue())
    else:
        require("pyarrow")
        import pyarrow as pa
        import pyarrow.parquet as pq

        buffer = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(records), buffer)
        write_atomic(path, buffer.getvalue().to_pybytes())
    return [path]


def _trec(items: Items, folder: Path) -> list[Path]:
    make_folder(folder)
    qrels = folder / "qrels.txt"
    relevant = ((_query(row), _document(text)) for row, text in enumerate(items.expected) if text)
    write_atomic(qrels, "".join(f"{query} 0 {document} 1\n" for query, document in relevant))
    return [qrels, *(_run(each, folder) for each in items.answers)]


def _run(each: Answers, folder: Path) -> Path:
    scores = each.confidence or [1.0] * len(each.answers)
    tag = f"{quote(each.strategy, safe=':@*+')}-{each.size}-{each.seed}"
    path = folder / f"{file_name(f'{each.strategy}-{each.size}-{each.seed}'.replace(':', '-').replace('/', '-'))}.run"
    answered = zip(each.answers, scores, strict=True)
    run = {_query(row): [(_document(text), score)] for row, (text, score) in enumerate(answered) if text}
    write_run(path, run, tag=tag)
    return path


def _query(row: int) -> str:
    return f"row-{row}"


def _document(text: str) -> str:
    return quote(text, safe="")
