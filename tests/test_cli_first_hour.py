"""What a newcomer gets wrong in the first hour: each is one line that says what to do, and leaves nothing behind."""

import pytest
from command_line import run

EMBEDDER = ("--embedder", "hash:64")


@pytest.fixture
def docs(tmp_path):
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "lamps.md").write_text("The lamp in the hall is dimmed at nine. It burns six watts.\n")
    return folder


def refused(*arguments, stdin=""):
    done = run(*arguments, stdin=stdin)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    return done.stderr


def test_ask_says_which_embedder_reads_and_where_that_is_kept(docs, tmp_path):
    question = ("ask", "When is the lamp dimmed?", "--docs", docs, "--index", tmp_path / "kept.rag")
    first = run(*question, *EMBEDDER)
    assert first.stderr == f"read 1 pieces of {docs} with the embedder hash:64, kept in {tmp_path / 'kept.rag'}\n"
    again = run(*question)  # the index knows its embedder
    assert (again.stdout, again.stderr) == (first.stdout, "")
    one = run("ask", "When is the lamp dimmed?", "--docs", docs / "lamps.md", *EMBEDDER)
    assert "not kept; --index keeps it" in one.stderr
    assert one.stdout.startswith("The lamp in the hall is dimmed at nine.")


@pytest.mark.parametrize(("name", "text"), [("broken.pdf", "%PDF-1.7\nno"), ("empty.md", " \n")])
@pytest.mark.parametrize("command", ["ask", "build"])
def test_a_document_that_cannot_be_read_is_an_error(tmp_path, name, text, command):
    pytest.importorskip("markitdown")
    file, new = tmp_path / name, tmp_path / "new.rag"
    file.write_text(text)
    asked = ["ask", "what?", "--docs", file] if command == "ask" else ["index", "build", new, file]
    assert "give a document that can be read" in refused(*asked, *EMBEDDER)
    assert not new.exists()


@pytest.mark.parametrize("wrong", [("--chunker", "recursve"), ("--text", "body")])
def test_a_build_that_was_mistaken_leaves_no_index(docs, tmp_path, wrong):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "a lamp"}\n')
    data = rows if wrong[0] == "--text" else docs
    refused("index", "build", tmp_path / "new.rag", data, *EMBEDDER, *wrong)
    assert not (tmp_path / "new.rag").exists()


def test_a_build_that_was_mistaken_keeps_the_index_that_was_there(docs, tmp_path):
    folder = tmp_path / "old.rag"
    assert run("index", "build", folder, docs, *EMBEDDER).returncode == 0
    refused("index", "build", folder, docs, *EMBEDDER, "--chunker", "recursve")
    assert run("index", "verify", folder).stdout.startswith("1 documents")


def test_a_kind_without_its_number_is_recognised(docs, tmp_path):
    said = refused("index", "build", tmp_path / "new.rag", docs, *EMBEDDER, "--chunker", "recursve")
    assert "Did you mean 'recursive:" in said


def test_an_index_that_is_not_there_names_the_command(tmp_path):
    assert "`ragkit index build`" in refused("index", "search", tmp_path / "no.rag", "lamp")


def test_rows_without_their_option(tmp_path):
    said = refused("compare", "tickets.jsonl")
    assert said.endswith("Rows are given with --data FILE; see `ragkit compare --help`\n")
    assert refused("comapre").endswith("Did you mean 'compare'? See `ragkit --help`\n")


def test_nothing_on_standard_input_is_no_prompt():
    assert "standard input is empty" in refused("generate", stdin=" \n")


def test_an_adapter_that_is_not_there_is_named(tmp_path):
    assert f"there is no folder {tmp_path / 'adapter'}" in refused("generate", "x", "--adapter", tmp_path / "adapter")


def test_a_file_that_is_no_trace_is_not_to_be_cut(tmp_path):
    (tmp_path / "mine.txt").write_text("my own notes\n")
    said = refused("pearl", "explain", tmp_path / "mine.txt")
    assert "this is another file" in said
    assert "cut" not in said


def test_a_broken_pdf_is_not_read_as_text(tmp_path):
    pytest.importorskip("markitdown")
    (tmp_path / "broken.pdf").write_text("%PDF-1.7\nno")
    assert "cannot be read as .pdf" in refused(
        "pearl", "run", "why?", "--document", tmp_path / "broken.pdf", "--model", "tiny"
    )


def test_a_heading_and_a_block_of_code_are_no_answers(docs):
    (docs / "lamps.md").write_text(
        "# When the lamp is dimmed\n\nThe lamp is dimmed at nine.\n\n```\ndim lamp --when nine\n```\n"
    )
    said = run("ask", "When is the lamp dimmed?", "--docs", docs / "lamps.md", *EMBEDDER)
    assert said.stdout.startswith("The lamp is dimmed at nine. [1]\n")
