"""An index in step with a folder: nothing is embedded twice, nothing is lost, nothing stays that is gone."""

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragkit import Document, Index, load_documents
from ragkit.embedders._hashing import HashingEmbedder
from ragkit.errors import InvalidInputError
from ragkit.ingest import load_chunker


class Counting(HashingEmbedder):
    def embed_documents(self, texts):
        self.seen = [*getattr(self, "seen", []), *texts]
        return super().embed_documents(texts)


@pytest.fixture
def docs(tmp_path):
    folder = tmp_path / "docs"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.md").write_text("# Lamps\n\nThe lamp is red.\n\n# Songs\n\nThe song is long.")
    (folder / "sub/b.txt").write_text("A card was lost.")
    (folder / "rows.csv").write_text("text,lang\nred lamp,en\nrote Lampe,de\n")
    return folder


def held(index):
    return {each.id: each.text for each in index.get_by_keys(index.keys())}


def test_only_what_changed_is_read_and_embedded(docs, monkeypatch):
    embedder = Counting(64)
    with Index.create(None, embedder=embedder) as index:
        index.add([Document("my own", id="own")])
        first = index.sync(docs, chunker="markdown")
        assert (first.new, first.removed, first.unchanged, first.unread) == (5, 0, 0, ())
        ids = set(held(index)) - {"own"}
        assert ids == {"docs/a.md#0-27", "docs/a.md#27-53", "docs/sub/b.txt#0-16", "docs/rows.csv:2#0-8",
                       "docs/rows.csv:3#0-10"}  # fmt: skip
        embedder.seen = []
        second = index.sync(docs, chunker="markdown")
        assert (second.new, second.removed, second.unchanged) == (0, 0, 3)
        (docs / "a.md").write_text("# Lamps\n\nThe lamp is red.\n\n# Songs\n\nThe song is short.")
        (docs / "sub/b.txt").unlink()
        (docs / "rows.csv").write_text("text,lang\nred lamp,en\n")
        third = index.sync(docs, chunker="markdown")
        assert (third.new, third.removed, third.unchanged) == (1, 3, 0)
        assert embedder.seen == ["# Songs\n\nThe song is short."]
        assert set(held(index)) == {"own", "docs/a.md#0-27", "docs/a.md#27-54", "docs/rows.csv:2#0-8"}


def test_hits_know_their_place(docs):
    with Index.create(None, embedder="hash:256") as index:
        index.sync(docs, chunker="markdown")
        hit = index.search("a long song", 1, where={"headings": "Songs"})[0]
        assert hit.span == (27, 53)
        assert hit.metadata["source"] == "docs/a.md"
        assert load_documents(docs / "a.md")[0].text[slice(*hit.span)] == hit.text


def test_what_cannot_be_read_any_more_stays(docs):
    with Index.create(None, embedder="hash:64") as index:
        index.sync(docs)
        before = held(index)
        (docs / "a.md").write_bytes(b"\0\1\2")
        report = index.sync(docs)
        assert held(index) == before
        assert [(each.source, each.reason.split(";")[0]) for each in report.unread] == [("docs/a.md", "it is not text")]
        (docs / "a.md").write_text("")
        assert index.sync(docs).removed == 2


def test_another_chunker_cuts_anew(docs):
    with Index.create(None, embedder="hash:64") as index:
        index.sync(docs, chunker="recursive")
        assert index.sync(docs, chunker="markdown").new == 2
        assert set(held(index)) >= {"docs/a.md#0-27", "docs/a.md#27-53"}
        assert "docs/a.md#0-53" not in held(index)


def test_two_folders_in_one_index(docs, tmp_path):
    other = tmp_path / "notes"
    other.mkdir()
    (other / "a.md").write_text("a note")
    with Index.create(None, embedder="hash:64") as index:
        index.sync(docs)
        index.sync(other)
        before = held(index)
        assert index.sync(docs).removed == index.sync(other).removed == 0
        assert held(index) == before
        assert index.search("note", 1)[0].id == "notes/a.md#0-6"


def test_an_interrupted_call_is_made_good(docs):
    (docs / "long.txt").write_text("\n\n".join(f"Paragraph {n} says {n * 7919}." for n in range(200)))

    class Failing(Counting):
        def embed_documents(self, texts):
            if len(getattr(self, "seen", [])) > 30 and not getattr(self, "well", False):
                raise RuntimeError("power is off")
            return super().embed_documents(texts)

    embedder = Failing(64)
    with Index.create(None, embedder=embedder) as index:
        add = index.add
        index.add = lambda documents: add(documents, batch_size=10)
        with pytest.raises(RuntimeError, match="power is off"):
            index.sync(docs, chunker="recursive:60")
        embedder.well = True
        index.sync(docs, chunker="recursive:60")
        assert len(embedder.seen) == len(set(embedder.seen))
        with Index.create(None, embedder="hash:64") as fresh:
            fresh.sync(docs, chunker="recursive:60")
            assert held(index) == held(fresh)


def test_what_cannot_be_synchronised(docs, tmp_path):
    (tmp_path / "empty").mkdir()
    with Index.create(None, embedder="hash:64") as index:
        index.sync(docs)
        before = held(index)
        for path, message in ((tmp_path / "empty", "holds no file"), (tmp_path / "none", "is not a folder"),
                              (str(docs / "a.md"), "is not a folder")):  # fmt: skip
            with pytest.raises(InvalidInputError, match=message):
                index.sync(path)
        assert held(index) == before
    with Index.create(None, embedder=None, dim=2) as index, pytest.raises(InvalidInputError, match="no embedder"):
        index.sync(docs)


FILES = st.dictionaries(st.sampled_from(["a.md", "b.txt", "c/d.txt"]), st.sampled_from(
    ["# One\n\ntext\n\n# Two\n\nmore", "plain lamp", "", "x " * 300, "# One\n\ntext"]), max_size=3)  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(states=st.lists(FILES, min_size=1, max_size=4))
def test_it_holds_what_the_folder_holds(states, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sync") / "docs"
    (folder / "c").mkdir(parents=True)
    (folder / "stay.txt").write_text("it stays")
    cut = load_chunker("markdown:100")
    with Index.create(None, embedder="hash:8") as index:
        for files in states:
            for name in ("a.md", "b.txt", "c/d.txt"):
                (folder / name).unlink(missing_ok=True)
                if name in files:
                    (folder / name).write_text(files[name])
            index.sync(folder, chunker=cut)
        expected = sorted(
            (piece.metadata["source"], piece.metadata["start"], piece.metadata["end"], piece.text)
            for document in load_documents(folder)
            for piece in cut.chunk(document)
        )
        assert expected == sorted(
            (each.metadata["source"], each.metadata["start"], each.metadata["end"], each.text)
            for each in index.get_by_keys(index.keys())
        )


def ragkit(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "ragkit_pipelines.cli", *map(str, arguments)], capture_output=True, text=True
    )


def test_the_command_line(docs, tmp_path):
    (docs / "junk.pdf").write_bytes(b"junk")
    done = ragkit("index", "build", tmp_path / "i", docs, "--embedder", "hash:64")
    assert done.returncode == 0, done.stderr
    assert "5 new or changed, 0 removed, 0 files unchanged" in done.stdout
    assert "not read: docs/junk.pdf: it cannot be read as .pdf" in done.stderr
    (docs / "sub/b.txt").unlink()
    done = ragkit("index", "sync", tmp_path / "i", docs)
    assert "0 new or changed, 1 removed, 2 files unchanged" in done.stdout
    (tmp_path / "empty").mkdir()
    done = ragkit("index", "sync", tmp_path / "i", tmp_path / "empty")
    assert (done.returncode, "holds no file" in done.stderr) == (2, True)
    done = ragkit("index", "add", tmp_path / "i", docs / "a.md")
    assert done.returncode == 0, done.stderr
