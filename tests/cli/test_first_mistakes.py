"""Common errors of new users: each is reported in one line with advice, and leaves no files behind."""

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


def test_ask_reports_the_embedder_and_the_folder_of_the_index(docs, tmp_path):
    question = ("ask", "When is the lamp dimmed?", "--docs", docs, "--index", tmp_path / "kept.rag")
    first = run(*question, *EMBEDDER)
    assert first.stderr.count("\n") == 1
    assert all(str(part) in first.stderr for part in (docs, "hash:64", tmp_path / "kept.rag"))
    again = run(*question)  # the index records its embedder
    assert (again.stdout, again.stderr) == (first.stdout, "")
    one = run("ask", "When is the lamp dimmed?", "--docs", docs / "lamps.md", *EMBEDDER)
    assert "--index" in one.stderr
    assert one.stdout.startswith("The lamp in the hall is dimmed at nine.")


@pytest.mark.parametrize(("name", "text"), [("broken.pdf", "%PDF-1.7\nno"), ("empty.md", " \n")])
@pytest.mark.parametrize("command", ["ask", "build"])
def test_an_unreadable_document_is_an_error(tmp_path, name, text, command):
    pytest.importorskip("markitdown")
    file, new = tmp_path / name, tmp_path / "new.rag"
    file.write_text(text)
    asked = ["ask", "what?", "--docs", file] if command == "ask" else ["index", "build", new, file]
    assert name in refused(*asked, *EMBEDDER)
    assert not new.exists()


@pytest.mark.parametrize("wrong", [("--chunker", "recursve"), ("--text", "body")])
def test_an_invalid_build_leaves_no_index(docs, tmp_path, wrong):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "a lamp"}\n')
    data = rows if wrong[0] == "--text" else docs
    refused("index", "build", tmp_path / "new.rag", data, *EMBEDDER, *wrong)
    assert not (tmp_path / "new.rag").exists()


def test_an_invalid_build_keeps_an_existing_index(docs, tmp_path):
    folder = tmp_path / "old.rag"
    assert run("index", "build", folder, docs, *EMBEDDER).returncode == 0
    refused("index", "build", folder, docs, *EMBEDDER, "--chunker", "recursve")
    assert run("index", "verify", folder).stdout.startswith("1 documents")


def test_a_misspelt_chunker_without_its_size_gets_a_suggestion(docs, tmp_path):
    stderr = refused("index", "build", tmp_path / "new.rag", docs, *EMBEDDER, "--chunker", "recursve")
    assert "Did you mean 'recursive" in stderr


def test_the_error_for_a_missing_index_names_the_command(tmp_path):
    assert "`ragkit index build`" in refused("index", "search", tmp_path / "no.rag", "lamp")


def test_a_file_without_its_option_gets_advice(tmp_path):
    stderr = refused("compare", "tickets.jsonl")
    assert "--data" in stderr
    assert "`ragkit compare --help`" in stderr
    assert refused("comapre").endswith("Did you mean 'compare'? See `ragkit --help`\n")


def test_empty_standard_input_is_an_error():
    assert "standard input is empty" in refused("generate", stdin=" \n")


def test_a_missing_adapter_is_named(tmp_path):
    assert f"there is no folder {tmp_path / 'adapter'}" in refused("generate", "x", "--adapter", tmp_path / "adapter")


def test_export_of_a_model_that_does_not_exist_is_one_line(tmp_path):
    assert "nope" in refused("export", "--model", "hf:nope", "--merged", tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_the_error_for_another_file_than_a_trace_does_not_advise_truncation(tmp_path):
    (tmp_path / "mine.txt").write_text("my own notes\n")
    stderr = refused("pearl", "explain", tmp_path / "mine.txt")
    assert "this is another file" in stderr
    assert "cut" not in stderr


def test_a_broken_pdf_is_not_read_as_text(tmp_path):
    pytest.importorskip("markitdown")
    (tmp_path / "broken.pdf").write_text("%PDF-1.7\nno")
    assert "cannot be read as .pdf" in refused(
        "pearl", "run", "why?", "--document", tmp_path / "broken.pdf", "--model", "tiny"
    )


def test_headings_and_code_blocks_are_not_answers(docs):
    (docs / "lamps.md").write_text(
        "# When the lamp is dimmed\n\nThe lamp is dimmed at nine.\n\n```\ndim lamp --when nine\n```\n"
    )
    done = run("ask", "When is the lamp dimmed?", "--docs", docs / "lamps.md", *EMBEDDER)
    assert done.stdout.startswith("The lamp is dimmed at nine. [1]\n")
