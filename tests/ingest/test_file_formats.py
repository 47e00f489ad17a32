"""Encodings, dialects and fields that files of others have: read as they were meant, or rejected by name."""

import csv
import json
import threading
import warnings

import pytest
from document_files import docx, pdf, pdf_without_unicode, pptx
from hypothesis import given, settings
from hypothesis import strategies as st

from ragkit import BM25Retriever, Index, Task, load_documents
from ragkit._csv_files import read_rows
from ragkit.errors import DataFileError, UnreadFileWarning
from ragkit.ingest._html_encoding import codec_of, declared_charset, decode_page
from ragkit.ingest._text_files import file_facts


def texts(path):
    return [each.text for each in load_documents(path)]


def unread(path):
    with pytest.warns(UnreadFileWarning):
        return load_documents(path).unread


# -- web pages ---------------------------------------------------------------------------------------------------------

# A label of the Encoding standard, the encoding that browsers take it for, and a text in it. Each encoding is written
# by Python's codec of that name, which is not the one that reads it where browsers read a superset.
PAGES = [
    ("gbk", "gbk", "红色的灯"),
    ("GB2312", "gb2312", "红色的灯"),
    ("x-gbk", "gbk", "繁體字"),
    ("chinese", "gb18030", "红色的灯𠀀"),
    ("big5", "big5", "紅色的燈"),
    ("big5-hkscs", "big5hkscs", "嘅紅燈"),
    ("shift_jis", "shift_jis", "赤いランプ"),
    ("x-sjis", "cp932", "赤い①㈱ﾗﾝﾌﾟ"),
    ("ms_kanji", "cp932", "髙橋"),
    ("euc-jp", "euc_jp", "赤いランプ"),
    ("iso-2022-jp", "iso2022_jp", "赤いランプ"),
    ("euc-kr", "euc_kr", "빨간 램프"),
    ("ks_c_5601-1987", "cp949", "똠방각하"),
    ("iso-2022-kr", "iso2022_kr", "빨간 램프"),
    ("hz-gb-2312", "hz", "红色的灯"),
    ("iso-8859-1", "cp1252", "„Größe“ – 5 €"),
    ("us-ascii", "cp1252", "naïve"),
    ("latin2", "iso8859_2", "Łódź"),
    ("l9", "iso8859_15", "5 € œuvre"),
    ("iso-8859-9", "cp1254", "İstanbul’da"),
    ("iso_8859-5:1988", "iso8859_5", "красная лампа"),
    ("windows-1251", "cp1251", "красная лампа"),
    ("koi8-r", "koi8_r", "красная лампа"),
    ("koi8-u", "koi8_u", "їжак"),
    ("ibm866", "cp866", "красная лампа"),
    ("x-mac-cyrillic", "mac_cyrillic", "красная лампа"),
    ("macintosh", "mac_roman", "Größe"),
    ("windows-1250", "cp1250", "Łódź"),
    ("greek", "iso8859_7", "κόκκινη λάμπα"),
    ("windows-1253", "cp1253", "κόκκινη λάμπα"),
    ("hebrew", "iso8859_8", "מנורה אדומה"),
    ("windows-1255", "cp1255", "מנורה אדומה"),
    ("arabic", "iso8859_6", "مصباح أحمر"),
    ("windows-1256", "cp1256", "مصباح أحمر"),
    ("tis-620", "cp874", "โคมไฟสีแดง“”"),
    ("windows-1257", "cp1257", "raudona lempa ąžuolas"),
    ("windows-1258", "cp1258", "đèn"),
    ("utf8", "utf_8", "红色的灯"),
    ("utf-16", "utf_8", "红色的灯"),  # a page whose declaration can be read is not UTF-16
]
DECLARATIONS = [
    '<html><head><meta charset="{}"></head>',
    "<META CHARSET={} >",
    "<meta name=x content=y><meta http-equiv='Content-Type' content='text/html; charset={}'>",
    "<meta content=\"text/html;charset = '{}'\" http-equiv=content-type />",
    '<?xml version="1.0" encoding="{}"?><html>',
    '<!-- <meta charset="koi8-r"> --><script>"<meta charset=koi8-r>"</script><meta charset="x"><meta charset=" {} ">',
    "<title>" + "long " * 20_000 + '</title><meta charset="{}">',
]


@pytest.mark.parametrize(("label", "codec", "text"), PAGES)
def test_pages_in_all_character_sets_of_browsers(tmp_path, label, codec, text):
    path = tmp_path / "page.html"
    for declaration in DECLARATIONS[:2]:
        path.write_bytes(f"{declaration.format(label)}<p>{text}</p>".encode(codec))
        assert texts(path) == [text]


@pytest.mark.parametrize("declaration", DECLARATIONS)
@pytest.mark.parametrize("label", ["gbk", "GBK"])
def test_declarations_of_a_character_set(tmp_path, declaration, label):
    (tmp_path / "page.htm").write_bytes(f"<body>{declaration.format(label)}<p>红色的灯".encode("gbk"))
    (read,) = texts(tmp_path / "page.htm")
    assert read.endswith("红色的灯")


def test_the_labels_are_those_of_the_standard():
    assert len({label for label, *_ in PAGES if codec_of(label)}) == len(PAGES)
    assert codec_of(" Latin1 ") == codec_of("ISO_8859-1:1987") == "cp1252"
    assert codec_of("utf-7") is None
    assert declared_charset(b"<meta charset=utf-7>") is None
    assert declared_charset(b"<meta http-equiv=refresh content='0; charset=gbk'><p>charset=gbk") is None


@pytest.mark.parametrize(
    ("page", "text"),
    [
        (b"<meta charset=euc-jp>\xad\xa1\xad\xea\xf9\xa1\x80", "<meta charset=euc-jp>①㈱纊\ufffd"),
        (b"<meta charset=iso-2022-jp>\x1b$B-!-j\x1b(B x \x1b(I1\x1b(J", "<meta charset=iso-2022-jp>①㈱ x ｱ"),
        (b"<meta charset=gbk>\x80 \xff", "<meta charset=gbk>€ \ufffd"),
        (b"<meta charset=latin1>\x81\x80", "<meta charset=latin1>\x81€"),
    ],
)
def test_bytes_that_only_browsers_decode(page, text):
    assert decode_page(page, None) == text


def test_a_declaration_that_the_bytes_contradict(tmp_path):
    """Saved as UTF-8, with the declaration of the page that it was before; with a byte order mark; as UTF-16."""
    page = '<meta charset="gbk"><p>红色的灯在走廊里</p>'
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"):
        (tmp_path / "page.html").write_bytes(page.encode(encoding))
        assert texts(tmp_path / "page.html") == ["红色的灯在走廊里"]
    (tmp_path / "page.html").write_bytes('<meta charset="utf-8"><p>café, naïve'.encode("latin-1"))
    assert texts(tmp_path / "page.html") == ["café, naïve"]
    (tmp_path / "page.html").write_bytes('<meta charset="latin1"><p>Ã©'.encode("cp1252"))
    assert texts(tmp_path / "page.html") == ["Ã©"]  # two bytes may be UTF-8 by chance


@pytest.mark.parametrize("label", ["iso-2022-cn", "replacement"])
def test_a_character_set_that_cannot_be_read_is_named(tmp_path, label):
    (tmp_path / "page.html").write_bytes(f'<meta charset="{label}"><p>x'.encode())
    ((_, reason),) = unread(tmp_path / "page.html")
    assert label in reason


def test_words_and_code_are_not_escaped(tmp_path):
    words = "max_open_files *args 2*3 a_b_c"
    (tmp_path / "a.html").write_text(f"<p>{words}</p><pre>x_y = a*b</pre><code>c_d</code><a href='/x'>e_f</a>")
    docx(tmp_path / "b.docx", [words])
    pptx(tmp_path / "c.pptx", "title_one", words, table=[["cell_one", "2*3"]])
    for each in load_documents(tmp_path):
        assert words in each.text
        assert "\\" not in each.text
    retriever = BM25Retriever(list(load_documents(tmp_path)))
    assert {hit.id.rsplit("/")[-1] for hit in retriever.retrieve("max_open_files")} == {"a.html", "b.docx", "c.pptx"}
    assert [hit.id.rsplit("/")[-1] for hit in retriever.retrieve("cell_one")] == ["c.pptx"]


# -- text --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("gbk", "红色的灯在走廊里"),
        ("big5", "紅色的燈在走廊裡"),
        ("shift_jis", "赤いランプがついた"),
        ("euc-jp", "赤いランプがついた"),
        ("euc-kr", "빨간 램프가 켜졌다"),
        ("windows-1251", "красная лампа"),
        ("koi8-r", "красная лампа"),
        ("iso8859-7", "κόκκινη λάμπα"),
    ],
)
def test_text_in_an_unknown_encoding_is_rejected(tmp_path, encoding, text):
    (tmp_path / "a.txt").write_bytes(b"# comment\nprint(1)  # " + text.encode(encoding))
    ((_, reason),) = unread(tmp_path / "a.txt")
    assert "its encoding is unknown" in reason
    xml = f'<?xml version="1.0" encoding="{encoding}"?>\n<p>{text}</p>'
    (tmp_path / "a.xml").write_bytes(xml.encode(encoding))
    assert texts(tmp_path / "a.xml") == [xml]


def test_damaged_bytes_do_not_change_the_encoding(tmp_path):
    whole = "Größe, naïve café, 红色的灯".encode()
    (tmp_path / "cut.txt").write_bytes(whole[:-1])
    (tmp_path / "mixed.txt").write_bytes(whole + b" caf\xe9 ")
    assert texts(tmp_path) == ["Größe, naïve café, 红色的\ufffd", "Größe, naïve café, 红色的灯 caf\ufffd "]
    dashes = "— — ———————— Größe ……………… “Öffnung” " * 3
    (tmp_path / "dashes.txt").write_bytes(dashes.encode("cp1252"))
    assert texts(tmp_path / "dashes.txt") == [dashes]


@settings(max_examples=200)
@given(text=st.text(), size=st.integers(4, 9))
def test_all_of_unicode_is_utf8(tmp_path_factory, text, size):
    path = tmp_path_factory.getbasetemp() / "a.txt"
    path.write_bytes(text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ragkit.ingest._text_files._AT_ONCE", size)  # characters are divided between blocks
        found = file_facts(path).encoding
    binary = any(character < " " and character not in "\t\n\r\f\x1b" for character in text)
    assert found == ("utf-8-sig" if text.startswith("\ufeff") else None if binary else "utf-8")


def test_glyphs_without_a_unicode_mapping(tmp_path):
    pdf_without_unicode(tmp_path / "a.pdf", "a long readable line of forty characters", unmapped=2)
    pdf_without_unicode(tmp_path / "b.pdf", "a line", unmapped=5)
    pdf(tmp_path / "c.pdf", "a page on the code \\(cid:16\\) itself")
    with pytest.warns(UnreadFileWarning, match="2 could not be read"):
        loaded = load_documents(tmp_path)
    assert [each.text.split("\n")[0] for each in loaded] == [
        "\ufffd\ufffda long readable line of forty characters",
        "a page on the code (cid:16) itself",
    ]
    reasons = {source[-5:]: reason for source, reason in loaded.unread}
    assert reasons["a.pdf"].startswith("2 of 42 glyphs have no Unicode mapping")
    assert reasons["b.pdf"].startswith("5 of 11 glyphs have no Unicode mapping")


# -- CSV ---------------------------------------------------------------------------------------------------------------

TABLES = {  # content, and its rows; the header has the columns text and lang
    "text,lang\n\"He wrote; 'stop'; and left\",en\n": [("He wrote; 'stop'; and left", "en")],
    "text;lang\n1,5 {a; b} |x|;en\n2,5 [y];de\n": None,  # a row with three cells: see below
    "text;lang\n1,5 [a, b] |x|;en\n2,5 (y, z);de\n": [("1,5 [a, b] |x|", "en"), ("2,5 (y, z)", "de")],
    "text\tlang\na, b; c | d\ten\n": [("a, b; c | d", "en")],
    "text|lang\na, b; c\td|en\n": [("a, b; c\td", "en")],
    'text,lang\n"a;b;c;d","e;f"\n"g;h;i;j","k;l"\n': [("a;b;c;d", "e;f"), ("g;h;i;j", "k;l")],
    'text, lang\n"a, b", en\n"c, d", de\n': [("a, b", "en"), ("c, d", "de")],
    'text,lang\n"say \\"hi, you\\"",en\n': [('say "hi, you"', "en")],
    'text,lang\n"say ""hi, you""",en\n': [('say "hi, you"', "en")],
    'text,lang\n"Hello" she said,en\n': [('"Hello" she said', "en")],
    'text,lang\n5" pipe,en\nC:\\,de\n': [('5" pipe', "en"), ("C:\\", "de")],
    'text,lang\n"C:\\",en\n': [("C:\\", "en")],
    "sep=;\ntext;lang\na,b;en\n": [("a,b", "en")],
    'text,lang\r"one\rtwo",en\r': [("one\rtwo", "en")],
    "\ufefftext,lang\r\n\r\na,en\r\n,\r\n": [("a", "en")],
    "text,lang\nit's,en\nhe's 'here',de\n": [("it's", "en"), ("he's 'here'", "de")],
    "text,lang\n{'a': 1; 'b': 2},en\n(x; y),de\n": [("{'a': 1; 'b': 2}", "en"), ("(x; y)", "de")],
}


@pytest.mark.parametrize("content", [content for content, rows in TABLES.items() if rows])
def test_dialects(tmp_path, content):
    (tmp_path / "a.csv").write_bytes(content.encode())
    found = [(each.text, each.metadata["lang"]) for each in load_documents(tmp_path / "a.csv")]
    assert found == TABLES[content]
    task = (
        Task.from_csv(tmp_path / "a.csv", input="text", output="lang", test_share=0) if ",\r" not in content else None
    )
    assert task is None or [(row.input, row.output) for row in task.examples] == TABLES[content]


def test_tabs_without_quotes(tmp_path):
    (tmp_path / "a.tsv").write_text('text\tlang\n"open\ten\n"b" c\tde\n,,\tfr\n')
    assert texts(tmp_path / "a.tsv") == ['"open', '"b" c', ",,"]
    task = Task.from_path(tmp_path / "a.tsv", input="text", output="lang")
    assert len(task.examples) + len(task.test) == 3


CELLS = st.text(st.sampled_from("ab,;\t|'\"()[]{} \n\\é"), max_size=12)


@settings(max_examples=300)
@given(rows=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=6), delimiter=st.sampled_from(",;\t|"))
def test_what_the_csv_module_writes_is_read_back(tmp_path_factory, rows, delimiter):
    path = tmp_path_factory.getbasetemp() / "written.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([("input", "output"), *rows])
    with path.open(encoding="utf-8", newline="") as file:
        assert [tuple(row.cells) for row in read_rows(file)] == [("input", "output"), *rows]


def test_rows_that_cannot_be_read_are_named(tmp_path):
    content = 'text,lang\na,en\n"b" c,en,\nd,"open\ne,en\nf,"en\n'
    (tmp_path / "a.csv").write_text(content)
    with pytest.warns(UnreadFileWarning):
        loaded = load_documents(tmp_path / "a.csv")
    assert [each.text for each in loaded] == ["a"]
    assert [source for source, _ in loaded.unread] == ["a.csv, line 3", "a.csv, line 6"]
    assert "begins on line 4" in loaded.unread[1].reason
    (tmp_path / "b.csv").write_text('text,"la\na,b\n')
    assert "begins on line 1" in unread(tmp_path / "b.csv")[0].reason
    with pytest.raises(DataFileError) as caught:
        Task.from_csv(tmp_path / "a.csv", input="text", output="lang")
    assert caught.value.line == 3


def test_fields_of_any_length_and_the_limit_of_others(tmp_path):
    long = "word " * 40_000 + '"'
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "output"), (long, "x"), ("last", "y")])
    before = csv.field_size_limit()
    assert texts(tmp_path / "a.csv") == [long, "last"]
    task = Task.from_csv(tmp_path / "a.csv", input="text", test_share=0)
    assert [row.input for row in task.examples] == [long, "last"]
    read = []
    threads = [threading.Thread(target=lambda: read.append(texts(tmp_path / "a.csv"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read == [[long, "last"]] * 8
    assert csv.field_size_limit() == before


# -- fields and ids of users -------------------------------------------------------------------------------------------


def test_fields_with_the_names_of_ours_are_kept(tmp_path):
    own = {"source": "https://example.org", "row": 7, "start": "2020", "end": 1.5, "source_": "x", "file": "f",
           "headings": ["h"], "chunker": "c", "parts": 3}  # fmt: skip
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "a lamp", **own}))
    (tmp_path / "b.csv").write_text("text,source,end\na song,web,9\n")
    one, two = load_documents(tmp_path)
    expected = {"source": f"{tmp_path.name}/a.jsonl", "row": 1, "start": 0, "end": 6}
    assert one.metadata == {
        "source__": "https://example.org", "row_": 7, "start_": "2020", "end_": 1.5, "source_": "x", "file_": "f",
        "headings_": ["h"], "chunker_": "c", "parts_": 3, **expected}  # fmt: skip
    assert two.metadata["source_"] == "web"
    assert two.metadata["end_"] == "9"
    with Index.create(None, embedder="hash:16") as index:
        index.sync(tmp_path, chunker="markdown")
        hit = index.search("lamp", 1, where={"source__": "https://example.org", "parts_": 3, "headings_": "h"})[0]
        assert (hit.text, hit.span) == ("a lamp", (0, 6))
        assert index.sync(tmp_path, chunker="markdown").unchanged == 2


def test_one_id_in_several_rows_keeps_all_of_them(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"id":"1","text":"x"}\n{"id":"2","text":"y"}\n{"id":"1","text":"z"}\n')
    (tmp_path / "b.jsonl").write_text('{"_id":1,"text":"w"}\n{"text":"v"}\n')
    (tmp_path / "c.jsonl").write_text(json.dumps({"id": f"{tmp_path.name}/a.jsonl:1", "text": "u"}))
    loaded = load_documents(tmp_path)
    ids = {each.text: each.id.removeprefix(f"{tmp_path.name}/") for each in loaded}
    assert ids == {"x": "a.jsonl:1", "y": "2", "z": "a.jsonl:3", "w": "b.jsonl:1", "v": "b.jsonl:2", "u": "c.jsonl:1"}
    assert {each.text: each.metadata.get("id") for each in loaded if each.text in "xyw"} == {
        "x": "1",
        "y": None,
        "w": "1",
    }
    with Index.create(None, embedder="hash:16") as index:
        index.add(loaded)
        assert len(index) == 6


@pytest.mark.parametrize(
    ("fields", "name", "kept"),
    [
        ({"_id": "d1", "title": "T"}, "d1", {"title": "T"}),
        ({"_id": 5}, "5", {}),
        ({"id": "a", "_id": "b"}, "a", {"_id": "b"}),
        ({"id": "", "_id": "b"}, "b", {}),
        ({"id": None}, "a.jsonl:1", {}),
        ({"_id": {"$oid": "5f"}}, "a.jsonl:1", {"_id": {"$oid": "5f"}}),
        ({"id": [1], "_id": 1.5}, "a.jsonl:1", {"id": [1], "_id": 1.5}),
        ({"id": True}, "a.jsonl:1", {"id": True}),
    ],
)
def test_ids_of_rows(tmp_path, fields, name, kept):
    (tmp_path / "a.jsonl").write_text(json.dumps({**fields, "text": "x"}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (document,) = load_documents(tmp_path / "a.jsonl")
    assert document.id == name
    assert {key: value for key, value in document.metadata.items() if key in {"id", "_id", "title"}} == kept


def test_ids_of_beir_in_tasks(tmp_path):
    rows = [{"_id": "q1", "input": "a", "output": "x"}, {"_id": 2, "id": "own", "input": "b", "output": "y"}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    task = Task.from_jsonl(tmp_path / "a.jsonl", test_share=0)
    assert [(row.id, row.metadata) for row in task.examples] == [("q1", None), ("own", {"_id": 2})]
