"""Lines of citations: those that an editor shows for the cited text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from ragkit import Document, Index, ScriptedModel
from ragkit.ingest import load_chunker, load_documents
from ragkit.retrievers import BM25Retriever, ExpandingRetriever
from ragkit_pipelines.rag import ExtractiveReader, RetrieveThenAnswer
from ragkit_pipelines.rag.answers import citation_of

TEXT = (
    "# Lamps\n\nThe lamp in the hall is red.\nIt was bought in 1990.\n\n\n"
    "## Fans\n\nThe fan is blue,\nand it stands\nin the attic.\n\nNobody uses the fan."
)


def lines_by_hand(content: str, text: str) -> tuple[int, int]:
    """Find a text, which occurs once, in a file, and number the lines of its first and last visible character."""
    (at,) = (found.start() for found in re.finditer(re.escape(text.strip()), content))
    ends = [found.end() for found in re.finditer("\r\n|\r|\n", content)]
    return 1 + sum(end <= at for end in ends), 1 + sum(end < at + len(text.strip()) for end in ends)


class Halves:
    """A chunker that copies the metadata of a document."""

    name = "halves"

    def chunk(self, document: Document) -> Sequence[Document]:
        middle = len(document.text) // 2
        spans = ((0, middle), (middle, len(document.text)))
        return [
            Document(document.text[start:end], metadata={**document.metadata, "start": start, "end": end})
            for start, end in spans
        ]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("chunker", ["recursive:40", "markdown:60", "recursive:60:20", Halves()])
def test_each_passage_has_the_lines_of_its_file(tmp_path: Path, end: str, chunker: object):
    docs = tmp_path / "docs"
    docs.mkdir()
    content = TEXT.replace("\n", end)
    (docs / "a.md").write_bytes(content.encode())
    with Index.create(None, embedder="hash:64") as index:
        index.sync(docs, chunker=chunker)
        hits = index.search("the lamp and the fan", k=20)
        wide = ExpandingRetriever(index, BM25Retriever(index), before=1, after=1).retrieve("attic", k=1)
    assert len(hits) > 1
    for hit in (*hits, *wide):
        citation = citation_of(1, hit)
        assert citation.lines == lines_by_hand(content, hit.text), hit.text
        first, last = citation.lines
        assert str(citation) == f"[1] docs/a.md:{first}" + (f"-{last}" if last > first else "")


def test_blocks_of_a_large_file_go_on_counting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    content = "\n".join(f"line {number} has some words" for number in range(1, 200))
    (tmp_path / "a.txt").write_text(content)
    monkeypatch.setattr("ragkit.ingest._text_files.blocks.__defaults__", (1000,))
    documents = load_documents(tmp_path / "a.txt").documents
    assert len(documents) > 3
    for piece in (piece for document in documents for piece in load_chunker("recursive:100").chunk(document)):
        assert piece.text.split()[:2] == ["line", str(piece.metadata["line"])]


def test_an_extracted_sentence_has_its_own_line(tmp_path: Path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text(TEXT)
    with Index.create(None, embedder="hash:256") as index:
        index.sync(tmp_path / "docs", chunker="recursive:1000")
        found = RetrieveThenAnswer(ExtractiveReader("hash:256", min_score=0.1), BM25Retriever(index)).invoke(
            "Where does the blue fan stand?"
        )
        whole = RetrieveThenAnswer(ScriptedModel(["In the attic [1]."]), BM25Retriever(index)).invoke("the fan")
    assert [lines_by_hand(TEXT, each.text) for each in found.citations] == [each.lines for each in found.citations]
    assert all(each.lines != (1, 13) for each in found.citations)
    assert str(whole).endswith("[1] docs/a.md:1-13")


def test_converted_files_and_rows_have_no_lines(tmp_path: Path):
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "a.html").write_text("<p>The lamp is red.</p><p>The fan is blue.</p>")
    (docs / "b.jsonl").write_text('{"text": "The song is old.", "line": 7}\n')
    with Index.create(None, embedder="hash:64") as index:
        index.sync(docs, chunker="recursive:1000")
        index.add([Document("The door is open.", metadata={"line": 4})])
        citations = [citation_of(1, hit) for hit in index.search("the", k=9)]
    assert len(citations) == 3
    assert [each.lines for each in citations] == [None] * 3
