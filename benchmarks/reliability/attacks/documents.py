"""Hostile documents, folders of documents, SQL answers and results of workers."""

from __future__ import annotations

import io
import os
import sqlite3
import stat
import subprocess
import sys
import threading
import time
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path

from attack_case import Attack
from document_files import OFFICE, RELATIONS, TYPES, WORD

from ragkit._files import atomic_folder, create_private, locked, make_folder, write_atomic
from ragkit.errors import RagkitError
from ragkit.ingest import ConversionLimits, MarkdownChunker, RecursiveChunker, TokenChunker, load_documents
from ragkit.metrics._sql import SqlMatch
from ragkit.records import Document

# -- documents ---------------------------------------------------------------------------------------------------------

CONTAINED = "Converting a hostile document takes limited time and memory, and the other documents are read."
LIMITS = ConversionLimits(seconds=5, mebibytes=512)
_NAMED = ("its conversion took more than", "its conversion needed more than", "its conversion made its process die",
          "its conversion gave more than", "it cannot be read as", "it holds no text")  # fmt: skip


def converts(make: Callable[[Path], object], name: str, folder: Path) -> str:
    """Load a folder with a hostile document and a good one; the hostile one is converted, or named with a reason."""
    docs = folder / "docs"
    docs.mkdir()
    make(docs / name)
    (docs / "z.html").write_text("<p>a good page")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = load_documents(docs, limits=LIMITS)
    texts = {each.id: each.text for each in loaded}
    if texts.get("docs/z.html") != "a good page":
        return f"the other document was lost: {loaded}"
    reasons = [each.reason for each in loaded.unread if each.source == f"docs/{name}"]
    if f"docs/{name}" not in texts and not any(reason.startswith(_NAMED) for reason in reasons):
        return f"not named: {loaded.unread}"
    leaked = [text for text in texts.values() if "root:" in text]
    return f"a file of the machine was read: {leaked}" if leaked else ""


def word(path: Path, body: str, *, before: str = "", relations: str = "") -> None:
    """Write a Word document with any XML."""
    kind = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{TYPES}"><Default Extension="rels" ContentType="application/vnd.'
        'openxmlformats-package.relationships+xml"/><Override PartName="/word/document.xml" '
        f'ContentType="{kind}"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{RELATIONS}"><Relationship Id="r1" Type="{OFFICE}" '
        'Target="word/document.xml"/></Relationships>',
        "word/document.xml": f'{before}<w:document xmlns:w="{WORD}"><w:body>{body}</w:body></w:document>',
        "word/_rels/document.xml.rels": f'<Relationships xmlns="{RELATIONS}">{relations}</Relationships>',
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def run_of(text: str) -> str:
    """Return a run of a Word document."""
    return f"<w:r><w:t>{text}</w:t></w:r>"


def paragraph(content: str) -> str:
    """Return a paragraph of a Word document."""
    return f"<w:p>{content}</w:p>"


def entities(path: Path, *, external: bool) -> None:
    """Write a Word document whose entities name a file, or grow ten-fold ten times."""
    grown = '<!ENTITY a0 "lol">' + "".join(f'<!ENTITY a{n + 1} "{f"&a{n};" * 10}">' for n in range(10))
    declared = '<!ENTITY a10 SYSTEM "file:///etc/passwd">' if external else grown
    word(path, paragraph(run_of("x&a10;")), before=f"<!DOCTYPE x [{declared}]>")


def external_image(path: Path) -> None:
    """Write a Word document with a picture that is a file of the reader's machine."""
    office = "http://schemas.openxmlformats.org"
    names = (
        f'xmlns:a="{office}/drawingml/2006/main" xmlns:pic="{office}/drawingml/2006/picture" '
        f'xmlns:r="{office}/officeDocument/2006/relationships" '
        f'xmlns:wp="{office}/drawingml/2006/wordprocessingDrawing"'
    )
    picture = '<pic:pic><pic:blipFill><a:blip r:link="rId9"/></pic:blipFill></pic:pic>'
    drawing = f"<w:drawing><wp:inline {names}><a:graphic><a:graphicData>{picture}</a:graphicData></a:graphic>"
    link = (
        f'<Relationship Id="rId9" Type="{office}/officeDocument/2006/relationships/image" Target="file:///etc/passwd" '
        'TargetMode="External"/>'
    )
    content = f"{run_of('see')}<w:r>{drawing}</wp:inline></w:drawing></w:r>"
    word(path, paragraph(content), relations=link)


def slides(path: Path) -> None:
    """Write a PowerPoint file with a part that grows to 600 MB."""
    from document_files import pptx

    pptx(path, "title", "text")
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(
                name, content.replace(b"title", b"x" * 600_000_000) if name.endswith("slide1.xml") else content
            )


def pdf(path: Path, *objects: bytes) -> None:
    """Write a PDF of some objects; the first is the catalogue."""
    out, places = io.BytesIO(), []
    out.write(b"%PDF-1.4\n")
    for number, content in enumerate(objects, 1):
        places.append(out.tell())
        out.write(b"%d 0 obj\n%s\nendobj\n" % (number, content))
    table = out.tell()
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    out.write(b"".join(b"%010d 00000 n \n" % place for place in places))
    out.write(b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, table))
    path.write_bytes(out.getvalue())


def stream(content: bytes, *, times: int = 1) -> bytes:
    """Return a PDF stream that is compressed once or several times."""
    for _ in range(times):
        content = zlib.compress(content, 9)
    filters = b"/FlateDecode " * times
    return b"<< /Length %d /Filter [%s] >>\nstream\n%s\nendstream" % (len(content), filters, content)


CATALOGUE = b"<< /Type /Catalog /Pages 2 0 R >>"
PAGES = b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>"
PAGE = (
    b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents 4 0 R "
    b"/Resources << /Font << /F1 5 0 R >> /XObject << /X 6 0 R >> >> >>"
)
FONT = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"
HELLO = b"BT /F1 12 Tf (hello) Tj ET"


def one_page(path: Path, drawn: bytes, *more: bytes, times: int = 1) -> None:
    """Write a PDF of one page."""
    pdf(path, CATALOGUE, PAGES, PAGE, stream(drawn, times=times), FONT, *more)


def form(number: int, drawn: bytes) -> bytes:
    """Return a form of a PDF that draws the form with a number."""
    return (
        b"<< /Type /XObject /Subtype /Form /BBox [0 0 1 1] /Resources << /XObject << /X %d 0 R >> >> /Length %d >>\n"
        b"stream\n%s\nendstream" % (number, len(drawn), drawn)
    )


def many_pages(path: Path) -> None:
    """Write a PDF whose page tree names one page a hundred thousand times."""
    pages = b"<< /Type /Pages /Kids [%s] /Count 100000 >>" % (b"3 0 R " * 100_000)
    pdf(path, CATALOGUE, pages, PAGE, stream(HELLO * 100), FONT, form(6, b""))


def page_loop(path: Path) -> None:
    """Write a PDF whose page tree contains itself."""
    pdf(path, CATALOGUE, b"<< /Type /Pages /Kids [2 0 R 3 0 R] /Count 2 >>", PAGE, stream(HELLO), FONT, form(6, b""))


def text_of(content: str) -> Callable[[Path], object]:
    """Return a function that writes a text file."""
    return lambda path: path.write_text(content)


# Name, function that writes the file, suffix, and whether the conversion ends only at a limit.
DOCUMENTS: list[tuple[str, Callable[[Path], object], str, bool]] = [
    ("Word with a million runs", lambda p: word(p, paragraph(run_of("a") * 1_000_000)), ".docx", True),
    ("Word nested 200,000 deep",
     lambda p: word(p, paragraph("<w:ins>" * 200_000 + run_of("a") + "</w:ins>" * 200_000)), ".docx", True),
    ("Word with nested tables",
     lambda p: word(p, "<w:tbl><w:tr><w:tc>" * 2000 + paragraph(run_of("a")) + "</w:tc></w:tr></w:tbl>" * 2000),
     ".docx", False),
    ("Word that decompresses to 600 MB", lambda p: word(p, paragraph(run_of(" " * 600_000_000))), ".docx", True),
    ("Word with entities that grow", partial(entities, external=False), ".docx", False),
    ("Word with an entity that is a file", partial(entities, external=True), ".docx", False),
    ("Word with a picture that is a file", external_image, ".docx", False),
    ("PowerPoint that decompresses to 600 MB", slides, ".pptx", True),
    ("PDF that decompresses to 1 GB", lambda p: one_page(p, b" " * 10**9 + HELLO, form(6, b""), times=2), ".pdf", True),
    ("PDF with a million glyphs",
     lambda p: one_page(p, b"BT /F1 1 Tf " + b"(hello hello hello) Tj " * 100_000 + b"ET", form(6, b"")), ".pdf", True),
    ("PDF with 100,000 pages", many_pages, ".pdf", True),
    ("PDF with 60,000 rectangles",
     lambda p: one_page(p, b"".join(b"%d %d 5 5 re S " % (n % 600, n // 600) for n in range(60_000)), form(6, b"")),
     ".pdf", True),
    ("PDF with a form that draws itself", lambda p: one_page(p, b"/X Do", form(6, b"/X Do")), ".pdf", False),
    ("PDF with forms that double 30 times",
     lambda p: one_page(p, b"/X Do", *(form(7 + n, b"/X Do /X Do") for n in range(30)), form(36, b" ")), ".pdf", True),
    ("PDF with a page tree that contains itself", page_loop, ".pdf", False),
    ("PDF with 200,000 open arrays", lambda p: one_page(p, HELLO + b"[" * 200_000, form(6, b"")), ".pdf", False),
    ("HTML nested a million deep", text_of("<div>" * 1_000_000 + "x"), ".html", True),
    ("HTML with 100,000 nested lists", text_of("<ul><li>x" * 100_000), ".html", True),
    ("HTML with 300,000 attributes", text_of("<p " + "".join(f"a{n}=1 " for n in range(300_000)) + ">"), ".html", True),
    ("HTML with open comments", text_of("<!--" * 300_000 + "x"), ".html", True),
    ("HTML with open declarations", text_of("<meta " * 200_000), ".html", True),
]  # fmt: skip


# -- folders -----------------------------------------------------------------------------------------------------------

NO_WAIT = "Links, pipes, devices, growing files and misleading names do not stop, extend or redirect the reading."


def reads_only(folder: Path, *, expected: Mapping[str, str], docs: Path | None = None) -> str:
    """Load a folder within two seconds, and compare its texts."""
    done: dict[str, str] = {}

    def load() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                done.update({str(each.id): each.text for each in load_documents(docs or folder)})
            except RagkitError as error:
                done["error"] = str(error)

    thread = threading.Thread(target=load, daemon=True)
    thread.start()
    thread.join(10)
    if thread.is_alive():
        return "reading did not end"
    return "" if done == expected else f"read {str(done)[:300]}"


def special_files(folder: Path) -> str:
    """Pipes, devices, sockets and links, in a folder and by name."""
    docs = folder / "docs"
    docs.mkdir()
    (docs / "a.txt").write_text("good")
    for name in ("pipe.txt", "pipe.html", "pipe.csv"):
        os.mkfifo(docs / name)
    (docs / "zero.txt").symlink_to("/dev/zero")
    (docs / "passwd.txt").symlink_to("/etc/passwd")
    (docs / "up").symlink_to("/")
    (docs / "loop.txt").symlink_to("loop.txt")
    by_name = "".join(
        reads_only(folder, docs=docs / name, expected={}) for name in ("pipe.txt", "zero.txt", "loop.txt", "pipe.csv")
    )
    return by_name or reads_only(folder, docs=docs, expected={"docs/a.txt": "good"})


def swapped_file(folder: Path) -> str:
    """A regular file becomes a pipe or a link after the folder was listed."""
    from ragkit.ingest._loading import facts_of, read_file
    from ragkit.ingest._sources import SourceFile

    os.mkfifo(folder / "a.txt")
    (folder / "b.txt").symlink_to("/etc/passwd")
    limits = ConversionLimits()
    for name in ("a.txt", "b.txt"):
        file = SourceFile(folder / name, name)
        found = list(read_file(file, facts_of(file, limits), limits))
        if isinstance(found[0], Document):
            return f"read {found}"
    return ""


def growing_file(folder: Path) -> str:
    """A file to which another process appends as fast as it can be read."""
    path = folder / "log.txt"
    path.write_text("a line of a log\n" * 1000)
    size = path.stat().st_size
    code = "import sys\nwith open(sys.argv[1], 'a') as file:\n    while True:\n        file.write('x' * 100000 + '\\n')"
    with subprocess.Popen([sys.executable, "-c", code, str(path)]) as writer:
        try:
            while path.stat().st_size < size + 10**6:
                time.sleep(0.01)
            start = path.stat().st_size
            length = sum(len(each.text) for each in load_documents(path))
            end = path.stat().st_size
        finally:
            writer.kill()
    return "" if start <= length <= end else f"read {length} of {start} to {end}"


def misleading_names(folder: Path) -> str:
    """Names that would write to a terminal, begin a new line or turn the text around."""
    docs = folder / "docs"
    docs.mkdir()
    (docs / "a.txt").write_text("good")
    for name in ("\x1b[2J.txt", "b\nc.txt", "d\u202etxt.exe", "e\x9b.txt", os.fsdecode(b"\xff.txt")):
        (docs / name).write_text("hidden")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loaded = load_documents(docs)
    said = "".join(str(each.message) for each in caught) + "".join(map(str, loaded.unread))
    if not said.isprintable() or len(loaded.unread) != 5:
        return f"{loaded.unread}"
    return "" if [each.text for each in loaded] == ["good"] else f"read {loaded}"


def sparse_file(folder: Path) -> str:
    """Files of a terabyte without content."""
    docs = folder / "docs"
    docs.mkdir()
    (docs / "a.txt").write_text("good")
    for name in ("b.txt", "c.pdf", "d.csv", "e.html"):
        with (docs / name).open("wb") as file:
            file.truncate(2**40)
    return reads_only(folder, docs=docs, expected={"docs/a.txt": "good"})


# -- chunking ----------------------------------------------------------------------------------------------------------


def chunks_linearly(folder: Path, *, piece: str) -> str:  # noqa: ARG001 - attacks get a folder
    """Chunk a text at which patterns with nested repetitions take quadratic time."""
    text = piece * (50_000 // len(piece))
    start = time.process_time()
    for chunker in (RecursiveChunker(1000, 200), MarkdownChunker(1000), TokenChunker("hash:8", 256, 64)):
        chunker.chunk(Document(text))
    seconds = time.process_time() - start
    return f"took {seconds:.1f} s" if seconds > 10 else ""


# -- SQL ---------------------------------------------------------------------------------------------------------------

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT "
DOUBLED = ", ".join(f"a{n + 1} AS (SELECT * FROM a{n} UNION ALL SELECT * FROM a{n})" for n in range(40))  # noqa: S608
QUERIES = {
    "tables that double 40 times": "WITH a0 AS (SELECT 1), " + DOUBLED + " SELECT count(*) FROM a40",  # noqa: S608
    "a format of a billion characters": "SELECT printf('%.*c', 1000000000, 'x')",
    "a billion zero bytes": "SELECT zeroblob(1000000000)",
    "a billion random bytes": "SELECT randomblob(1000000000)",
    "hexadecimal digits that double": "SELECT " + "hex(" * 20 + "zeroblob(100000)" + ")" * 20,
    "a text that doubles": "WITH RECURSIVE n(i) AS (SELECT 'x' UNION ALL SELECT i || i FROM n) SELECT count(*) FROM n",
    "replacements that grow": "SELECT " + "replace(" * 9 + "'aaaaaaaaaa'" + ", 'a', 'aaaaaaaaaa')" * 9,
    "concatenated groups": ENDLESS + "group_concat(printf('%.*c', 999999, 'x')) FROM n",
    "endless recursion": ENDLESS + "count(*) FROM n",
    "an endless sort": ENDLESS + "i, zeroblob(900000) FROM n ORDER BY 1 DESC",
    "distinct values without end": ENDLESS + "count(DISTINCT i || 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx') FROM n",
    "crossed JSON": "SELECT count(*) FROM json_each('["
    + "1," * 9000
    + "1]') a, json_each(a.json) b, json_each(b.json)",
    "deep JSON": "SELECT json('" + "[" * 90_000 + "')",
    "a pattern of exponential time": f"SELECT '{'a' * 50_000}' LIKE '{'%a' * 400}b'",
    "a glob of exponential time": f"SELECT '{'a' * 50_000}' GLOB '{'*a' * 400}b'",
    "deep brackets": "SELECT " + "(" * 9000 + "1" + ")" * 9000,
    "60 joined tables": "SELECT count(*) FROM t" + ", t".join(f" t{n}" for n in range(60)),  # noqa: S608
    "a statement of two megabytes": f"SELECT '{'x' * 2_000_000}'",
    "a lone surrogate": "SELECT '\ud800'",
    "a zero byte": "SELECT 1\x00; SELECT 2",
    "an extension": "SELECT load_extension('/tmp/x')",
    "another database": "ATTACH DATABASE 'file:other.sqlite' AS other",
    "a setting": "PRAGMA writable_schema = ON",
    "a copy": "VACUUM INTO 'copy.sqlite'",
    "a write": "INSERT INTO t VALUES (1) RETURNING 1",
    "a table of settings": "SELECT * FROM pragma_database_list",
}
SLOW_QUERIES = {"tables that double 40 times", "a format of a billion characters", "endless recursion",
                "an endless sort", "distinct values without end", "crossed JSON", "60 joined tables"}  # fmt: skip


def runs_within_limits(folder: Path, *, query: str) -> str:
    """Score an answer of a model; it counts as wrong, and the metric still works."""
    database = folder / "a.sqlite"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE t (x)")
        connection.executemany("INSERT INTO t VALUES (?)", [(n,) for n in range(100)])
        connection.commit()
    before = database.read_bytes()
    metric = SqlMatch(database, seconds=1)
    if metric(query, "SELECT count(*), 'never' FROM t") != 0.0:
        return "it counts as right"
    if metric("SELECT 100", "SELECT count(*) FROM t") != 1.0:
        return "the next answer is wrong"
    if database.read_bytes() != before or sorted(folder.iterdir()) != [database]:
        return f"something was written: {sorted(folder.iterdir())}"
    return ""


# -- workers and files -------------------------------------------------------------------------------------------------


def no_pickles_from_workers(folder: Path) -> str:
    """A worker writes a pickle with a call to its pipe; the parent does not load it."""
    from worker_attacks import Forges

    from ragkit.workers import Batch, Missing, WorkerPool

    marker = folder / "loaded"
    done = list(WorkerPool("process", workers=1, attempts=1).stream(Forges(str(marker)), [Batch(["a"], [1])]))
    if marker.exists():
        return "it was loaded"
    return "" if len(done) == 1 and isinstance(done[0], Missing) else f"{done}"


def private_files(folder: Path) -> str:
    """Files and folders of ragkit can be read by their owner only, with the usual umask."""
    before = os.umask(0o022)
    try:
        make_folder(folder / "cache" / "inner")
        write_atomic(folder / "cache" / "a", "x")
        create_private(folder / "cache" / "b")
        with locked(folder / "cache" / "c"), atomic_folder(folder / "cache" / "d") as inside:
            write_atomic(inside / "e", "x")
    finally:
        os.umask(before)
    modes = {str(each.relative_to(folder)): stat.S_IMODE(each.stat().st_mode) for each in folder.rglob("*")}
    wide = {name: oct(mode) for name, mode in modes.items() if mode & 0o077}
    return f"others can read {wide}" if wide else ""


def planted_links(folder: Path) -> str:
    """A link at the final name is replaced; the file that it points to does not change."""
    (folder / "outside").write_text("mine")
    (folder / "report").symlink_to(folder / "outside")
    write_atomic(folder / "report", "new")
    (folder / "lock").symlink_to(folder / "created")
    try:
        with locked(folder / "lock"):
            return "a lock follows a link"
    except OSError:
        pass
    held = (folder / "outside").read_text() == "mine" and not (folder / "created").exists()
    return "" if held and not (folder / "report").is_symlink() else "written through a link"


ATTACKS = [
    *(
        Attack(name, CONTAINED, partial(converts, make, f"a{suffix}"), seconds=40, memory_mib=2200, slow=limited)
        for name, make, suffix, limited in DOCUMENTS
    ),
    Attack("pipes, devices and links", NO_WAIT, special_files),
    Attack("a file that becomes a pipe or a link", NO_WAIT, swapped_file),
    Attack("a file that grows while it is read", NO_WAIT, growing_file),
    Attack("names with control characters", NO_WAIT, misleading_names),
    Attack("files of a terabyte without content", NO_WAIT, sparse_file),
    *(
        Attack(f"chunking of {piece!r}", "The time to chunk a text grows in proportion to its length.",
               partial(chunks_linearly, piece=piece))
        for piece in (".", "!?", "\U0001f1e6", "[", "![", "*a**", "`", "<!", "---\n", "\u0301")
    ),
    *(
        Attack(f"SQL: {name}", "SQL that a model wrote only reads, within limits of time and memory.",
               partial(runs_within_limits, query=query), slow=name in SLOW_QUERIES)
        for name, query in QUERIES.items()
    ),
    Attack("a pickle from a worker", "Results of workers are never unpickled.", no_pickles_from_workers, slow=True),
    Attack("files that others may read", "Only their owner can read the files that ragkit creates.", private_files),
    Attack("links at the names of files", "Writes do not follow symbolic links.", planted_links),
]  # fmt: skip
