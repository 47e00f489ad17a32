"""An index in a folder that is named from where the program stands, which is how people name folders."""

from command_line import run

from ragkit import Document, Index


def test_a_relative_folder_stays_that_folder_when_the_program_goes_elsewhere(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with Index.create("notes.rag", embedder="hash:32") as index:
        monkeypatch.chdir(tmp_path / "elsewhere")
        index.add([Document("a lamp", id="a"), Document("a door", id="b")])
        index.compact()
        assert index.search("a lamp", k=1)[0].id == "a"
    assert not (tmp_path / "elsewhere" / "notes.rag").exists()
    monkeypatch.chdir(tmp_path)
    with Index.open("notes.rag", read_only=True, verify=True) as index:
        monkeypatch.chdir(tmp_path / "elsewhere")
        assert index.search("a door", k=1)[0].id == "b"


def test_relative_folders_on_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text('{"id": "a", "text": "a lamp"}\n')
    for done in (
        run("index", "build", "notes.rag", "rows.jsonl", "--embedder", "hash:32"),
        run("index", "add", "notes.rag", "rows.jsonl"),
        run("index", "verify", "notes.rag"),
    ):
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("1 documents,")
