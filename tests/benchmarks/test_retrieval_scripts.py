"""Texts of all scripts and with all line ends: where they are cut, and what their pieces say of their source."""

import itertools
import re
import unicodedata

import pytest
import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st
from langchain_text_splitters import RecursiveCharacterTextSplitter

from ragkit import Document, load_documents
from ragkit._breaks import UnixText, character_start
from ragkit._text import SENTENCE_ENDS
from ragkit.ingest import MarkdownChunker, RecursiveChunker, TokenChunker, load_chunker
from ragkit.ingest._splitting import split_spans
from ragkit.ingest._text_files import blocks
from ragkit_pipelines.pearl.run.passages import cut
from ragkit_pipelines.rag.extractive import sentence_spans

SENTENCES = {
    "Chinese": ["红色的灯在走廊里。", "我们在晚上打开它！", "歌很长？", "他说：「好。」", "船在港口。"],
    "Japanese": ["赤いランプがつきました。", "それは青い！", "「はい。」"],
    "Hindi": ["यह लाल है। ", "हाँ की वह नीला है। ", "क्षत्रिय॥"],
    "Urdu": ["یہ سرخ ہے۔ ", "کیا وہ نیلا ہے؟ ", "ہاں۔"],
    "Burmese": ["ဒါက နီတယ်။ ", "ဟုတ်တယ်။ ", "မြန်မာ။"],
    "Khmer": ["ភាសាខ្មែរ។ ", "ស្រស់ស្អាត។"],
    "Armenian": ["Լամպը կարմիր է։ ", "Այո։"],
    "Amharic": ["ቀይ መብራት። ", "አዎ።"],
    "English": ['He said "yes." ', "Is it red? ", "It is 3.5 m!  ", "Dim it."],
}
# Clusters of several code points: accents, vowel signs, conjuncts, jamo, emoji with skin tones and joiners, flags.
CLUSTERS = [
    "e\u0301",
    "কি",
    "क्षि",
    "กำ",
    "ผู้",
    "ကို",
    "각",
    "👍🏽",
    "👩‍👩‍👧‍👦",
    "🇩🇪",
    "❤️",
    "葛󠄀",
    "a",
    "灯",
    "。",
    ". ",
    " ",
    "\n",
    "が",
]
BLOCKS = [*CLUSTERS, "\r\n", "\r", "ab"]
KINDS = [RecursiveChunker, MarkdownChunker, lambda size, overlap=0: TokenChunker("hash:8", size, overlap)]


def cuts(text):
    """Where a text may be cut: between grapheme clusters."""
    return {0, len(text), *(found.start() for found in regex.finditer(r"\X", text))}


@pytest.mark.parametrize("language", SENTENCES)
@pytest.mark.parametrize("joined", [1, 2])
def test_pieces_end_where_sentences_end(language, joined):
    sentences = SENTENCES[language]
    size = (
        max(len("".join(pair)) for pair in itertools.pairwise(sentences)) if joined == 2 else max(map(len, sentences))
    )
    pieces = RecursiveChunker(size).chunk(Document("".join(sentences)))
    ends = set(itertools.accumulate(map(len, sentences)))
    assert {piece.metadata["end"] for piece in pieces} <= ends
    assert max(len(piece.text) for piece in pieces) <= size


def test_the_ends_of_sentences_are_those_of_unicode():
    ends = [chr(code) for code in range(0x10000) if not 0xD800 <= code < 0xE000]
    ours = {each for each in ends if re.match(f"[{SENTENCE_ENDS}]", each)}
    unicodes = {each for each in ends if regex.match(r"\p{SB=STerm}", each) and unicodedata.category(each) != "Cn"}
    assert ours <= unicodes
    # What is missing belongs to the Latin script, where a space follows.
    assert {each for each in unicodes - ours if unicodedata.category(each) != "Cn"} <= set("!?‼‽⁇⁈⁉⸮⸼⹓⹔")


@pytest.mark.parametrize("language", [name for name in SENTENCES if name not in {"English"}])
def test_citations_quote_whole_sentences(language):
    text = "".join(SENTENCES[language])
    assert [text[start:end] for start, end in sentence_spans(text)] == [each.strip() for each in SENTENCES[language]]


@settings(max_examples=400, deadline=None)
@given(
    text=st.one_of(
        st.lists(st.sampled_from([*CLUSTERS, "\u0301", "\ufe0f"]), max_size=40).map("".join), st.text(max_size=30)
    ),
    kind=st.sampled_from(KINDS),
    size=st.integers(1, 12),
    overlap=st.integers(0, 6),
)
def test_no_character_is_separated_from_its_marks(text, kind, size, overlap):
    allowed = cuts(text)
    for piece in kind(size, min(overlap, size // 2)).chunk(Document(text)):
        assert {piece.metadata["start"], piece.metadata["end"]} <= allowed


@settings(max_examples=300, deadline=None)
@given(
    text=st.lists(st.sampled_from(["a", "bc", "。", "灯", ". ", " ", "\n", "\n\n", "# T\n\n", "- x\n", "T\n==\n"])).map(
        "".join
    ),
    end=st.sampled_from(["\r\n", "\r"]),
    kind=st.sampled_from(KINDS),
    size=st.integers(1, 20),
    overlap=st.integers(0, 5),
)
@example("---\ntitle: x\n---\n\nRed.\n", "\r\n", MarkdownChunker, 4, 0)
def test_all_line_ends_give_the_same_pieces(text, end, kind, size, overlap):
    chunker = kind(size, min(overlap, size // 2))
    unix = chunker.chunk(Document(text))
    other = text.replace("\n", end)
    pieces = chunker.chunk(Document(other, metadata={"start": 7}))
    assert [piece.text.replace(end, "\n") for piece in pieces] == [piece.text for piece in unix]
    assert [piece.metadata.get("headings") for piece in pieces] == [piece.metadata.get("headings") for piece in unix]
    for piece in pieces:
        assert other[piece.metadata["start"] - 7 : piece.metadata["end"] - 7] == piece.text


@given(st.text(st.sampled_from("a\r\n")))
def test_places_in_the_original(text):
    unix = UnixText(text)
    assert unix.text == text.replace("\r\n", "\n").replace("\r", "\n")
    for place, character in enumerate(unix.text):
        original = text[unix.original(place)]
        assert original == character or (original, character) == ("\r", "\n")
    assert unix.original(len(unix.text)) == len(text)


@settings(max_examples=300)
@given(text=st.text(st.sampled_from("ab .。\n"), max_size=120), size=st.integers(1, 25))
def test_pieces_are_those_of_langchain(text, size):
    """The same as LangChain's splitter with our separators, whose pieces of exactly ``size`` it splits once more."""
    sentence = r"[.!?…]+\s+|[。]+\s*"
    splitter = RecursiveCharacterTextSplitter(
        [r"\n\n", r"\n", sentence, r"\s+", ""], keep_separator="end", is_separator_regex=True, strip_whitespace=False,
        chunk_size=size, chunk_overlap=0,
    )  # fmt: skip
    pieces = [text[start:end] for start, end in split_spans(text, 0, len(text), size, len)]
    assert pieces == splitter.split_text(text)


@pytest.mark.parametrize("language", SENTENCES)
def test_overlap_in_scripts_without_spaces(language):
    text = "".join(SENTENCES[language]) * 4
    pieces = RecursiveChunker(24, 8).chunk(Document(text))
    overlaps = [one.metadata["end"] - other.metadata["start"] for one, other in itertools.pairwise(pieces)]
    assert all(0 <= each <= 8 for each in overlaps)
    if language in {"Chinese", "Japanese"}:
        assert min(overlaps) >= 7  # a mark goes with the character before it


@pytest.mark.parametrize(
    ("front", "headings"),
    [
        ("---\ntitle: L\n---\n", None),
        ("---\n# a comment\n\ntitle: L\ntags:\n  - a\n...\n", None),
        ("\ufeff---\ntitle: L\n---\n", None),
        ("+++\ntitle = 'L'\n+++\n", None),
        ("---\ntitle: L\n---", None),
        ("---\n\nA heading\n---\n", ["A heading"]),  # a line, then a heading
        ("text\n\n---\ntitle: L\n---\n", ["title: L"]),  # not at the head of the document
        ("---\ntitle: L\n", None),  # not closed: a line and a paragraph
    ],
)
def test_front_matter_is_not_a_heading(front, headings):
    for newline in ("\n", "\r\n"):
        text = (front + "\n\nRed.\n\n# Blue\n\nSea.\n").replace("\n", newline)
        *_, red, blue = MarkdownChunker(200).chunk(Document(text))
        assert (red.metadata.get("headings"), blue.metadata["headings"]) == (headings, [*(headings or [])[:-1], "Blue"])
        assert red.metadata["end"] == blue.metadata["start"] == text.index("# Blue")


def test_own_fields_named_start_and_end_are_kept():
    own = Document("Red. Blue.", metadata={"start": "2020-01-01", "end": "2021", "page": 1})
    (piece,) = load_chunker("recursive").chunk(own)
    assert piece.metadata == {"start_": "2020-01-01", "end_": "2021", "page": 1, "start": 0, "end": 10}
    (piece,) = load_chunker("recursive").chunk(Document("Red.", metadata={"start": 3, "end": 9}))
    assert piece.metadata == {"start_": 3, "end_": 9, "start": 0, "end": 4}
    (piece,) = load_chunker("recursive").chunk(Document("Red.", metadata={"start": 3, "end": 7}))
    assert piece.metadata == {"start": 3, "end": 7}


def test_a_character_without_ascii_may_be_a_token():
    class Uncounted:
        name, fingerprint, dim = "own", "own", 2

        def embed_documents(self, texts):
            raise NotImplementedError

        embed_queries = embed_documents

    pieces = TokenChunker(Uncounted(), 10).chunk(Document("红色的灯在走廊里我们在晚上打开它" + " word" * 10))
    assert len(pieces[0].text) == 10
    assert max(len(piece.text) for piece in pieces) <= 40


@settings(max_examples=100)
@given(text=st.lists(st.sampled_from(BLOCKS), max_size=60).map("".join), size=st.integers(30, 60))
def test_blocks_of_large_files_begin_with_whole_characters(tmp_path_factory, text, size):
    path = tmp_path_factory.getbasetemp() / "block.txt"
    path.write_bytes(text.encode())
    found = list(blocks(path, "utf-8", size))
    assert "".join(block for _, block in found) == text
    assert {start for start, _ in found} <= cuts(text)


@given(text=st.lists(st.sampled_from(BLOCKS), max_size=9).map("".join))
def test_characters_begin_where_unicode_says(text):
    starts = sorted(cuts(text))
    for index in range(len(text) + 1):
        assert character_start(text, index) in starts
        if "🇩🇪🇩🇪" not in text:
            assert character_start(text, index) == max(each for each in starts if each <= index)


def ends_of(part, text):
    return [found.end() for found in re.finditer(re.escape(part), text)]


def test_passages_of_plans_in_all_scripts():
    for language, sentences in SENTENCES.items():
        text = "".join(each.rstrip() + " " for each in sentences) * 3
        ends = {len(text[:end].rstrip()) for each in sentences for end in ends_of(each.rstrip(), text)}
        passages = cut(text, max(map(len, sentences)) * 3, len)
        assert {passage.span[1] for passage in passages} <= ends, language
    for end in ("\n", "\r\n", "\r"):
        text = end.join(["one line", "two lines", "", "next", "and last"])
        found = cut(text, 24, len)
        assert [passage.text.replace(end, "\n") for passage in found] == ["one line\ntwo lines", "next\nand last"]
        assert all(text[slice(*passage.span)] == passage.text for passage in found)


@given(text=st.lists(st.sampled_from(CLUSTERS), max_size=30).map("".join), overlap=st.integers(0, 9))
def test_passages_of_plans_hold_whole_characters(text, overlap):
    allowed = cuts(text)
    for passage in cut(text, 12, len, overlap=overlap):
        assert set(passage.span) <= allowed


def test_blocks_end_with_paragraphs_of_all_systems(tmp_path):
    for end in ("\n", "\r\n", "\r"):
        text = end.join(["a line of text", "one more", "", "next paragraph", "and its end"])
        (tmp_path / "a.txt").write_bytes(text.encode())
        found = [block for _, block in blocks(tmp_path / "a.txt", "utf-8", 40)]
        assert [block.replace(end, "\n") for block in found] == [
            "a line of text\none more\n\n",
            "next paragraph\nand its end",
        ]
    (tmp_path / "b.txt").write_text("红色的灯在走廊里。" * 8)
    assert [len(block) for _, block in blocks(tmp_path / "b.txt", "utf-8", 50)] == [45, 27]
    (tmp_path / "c.txt").write_text("ผู้" * 30)
    assert all(block.startswith("ผ") for _, block in blocks(tmp_path / "c.txt", "utf-8", 50))


def test_files_with_other_line_ends_keep_their_places(tmp_path):
    (tmp_path / "a.md").write_bytes(b"# One\r\rRed.\r\r# Two\r\rBlue.")
    (document,) = load_documents(tmp_path / "a.md")
    pieces = MarkdownChunker(100).chunk(document)
    assert [(piece.text, piece.metadata["headings"]) for piece in pieces] == [
        ("# One\r\rRed.\r\r", ["One"]),
        ("# Two\r\rBlue.", ["Two"]),
    ]
