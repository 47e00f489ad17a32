"""An index that workers embed for is the index that one process makes."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from ragkit import Document, Index
from ragkit.embedders._hashing import HashingEmbedder
from ragkit.errors import InvalidInputError, MissingResultsError
from ragkit.workers import WorkerPool
from ragkit_pipelines.cli.main import app

TEXTS = [f"{verb} the {thing} {n}" for n in range(20) for verb in ("dim", "find", "play") for thing in ("lamp", "song")]


def content(index):
    """Every document with its vector, in the order of rows."""
    rows = index._store.database.connection.execute("SELECT id, text, metadata FROM documents ORDER BY row").fetchall()
    vectors = index.get_vectors([row[0] for row in rows])
    return rows, vectors.tobytes()


def test_workers_make_the_same_index(tmp_path):
    documents = [Document(text, id=f"d{n}", metadata={"n": n}) for n, text in enumerate([*TEXTS, *TEXTS[:30]])]
    with (
        Index.create(tmp_path / "a", embedder="hash:64") as alone,
        Index.create(tmp_path / "b", embedder="hash:64") as many,
    ):
        expected = alone.add(documents, batch_size=16)
        assert many.add(iter(documents), batch_size=16, pool=WorkerPool("process", workers=2)) == expected
        assert content(many) == content(alone)
        many.verify()
        assert many.search("find a song", k=5) == alone.search("find a song", k=5)


class Counting(HashingEmbedder):
    """Embeds in this process and notes the texts; kills nothing, dislikes some."""

    texts: list[str] = []  # noqa: RUF012 - one for all, as pools load embedders anew

    def embed_documents(self, texts):
        if any("poison" in text for text in texts):
            raise ValueError("poison")
        self.texts.extend(texts)
        return super().embed_documents(texts)


@pytest.fixture
def counting(monkeypatch):
    monkeypatch.setattr("ragkit.embedders._hashing.HashingEmbedder", Counting)
    Counting.texts.clear()
    return Counting.texts


ids = st.sampled_from("abcdef")
words = st.sampled_from(["lamp", "song", "time", "rain", "poison"])
calls = st.lists(st.lists(st.tuples(ids, words, st.integers(0, 2)), max_size=9), min_size=1, max_size=3)


@settings(max_examples=60, deadline=None)
@given(calls=calls, size=st.integers(1, 4))
def test_any_documents_in_any_batches(calls, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ragkit.embedders._hashing.HashingEmbedder", Counting)
        index = Index.create(None, embedder="hash:8")
        held = {}
        for call in calls:
            documents = [Document(text, id=name, metadata={"n": n}) for name, text, n in call]
            poisoned = set()
            for start in range(0, len(call), size):  # a batch with a poisoned text loses the texts it had to embed
                batch = dict.fromkeys(name for name, _, _ in call[start : start + size])
                last = {name: (text, n) for name, text, n in call[start : start + size]}
                if any(text == "poison" for text, _ in last.values()):
                    poisoned |= batch.keys()
            try:
                index.add(documents, batch_size=size, pool=WorkerPool("inline", attempts=1))
                lost = set()
                assert not poisoned
            except MissingResultsError as error:
                lost = {name for each in error.missing for name in each.ids}
                assert poisoned
            index.verify()
            found = {each.id: (each.text, (each.metadata or {}).get("n")) for each in index.get(list("abcdef"))}
            for name in dict.fromkeys(name for name, _, _ in call):
                if name not in lost:
                    held[name] = [(text, n) for each, text, n in call if each == name][-1]
                    assert found[name] == held[name]
            assert "poison" not in {text for text, _ in found.values()}
            vectors = {name: HashingEmbedder(8).embed_documents([text])[0] for name, (text, _) in found.items()}
            for name, vector in vectors.items():
                assert np.allclose(index.get_vectors([name])[0], vector, atol=1e-6)
        index.close()


def test_a_text_is_embedded_once(tmp_path, counting):
    pool = WorkerPool("inline")
    with Index.create(tmp_path / "i", embedder="hash:8") as index:
        index.add(["lamp", "song", "lamp", "rain", "song"], batch_size=2, pool=pool)
        index.add(["rain", "time"], batch_size=1, pool=pool)
    assert sorted(counting) == ["lamp", "rain", "song", "time"]


def test_what_comes_before_a_mistake_is_added(tmp_path):
    with Index.create(tmp_path / "i", embedder="hash:8") as index:
        with pytest.raises(InvalidInputError, match=r"documents\[3\] must be a Document"):
            index.add(["lamp", "song", "rain", 4], batch_size=1, pool=WorkerPool("process"))
        assert len(index) == 3
        with pytest.raises(InvalidInputError, match="`pool` is for embedding, but `vectors` are given"):
            index.add(["x"], vectors=np.ones((1, 8)), pool=WorkerPool("process"))


def test_the_command_line_embeds_in_processes(tmp_path):
    file = tmp_path / "corpus.jsonl"
    file.write_text("".join(json.dumps({"text": text, "id": n}) + "\n" for n, text in enumerate(TEXTS)))
    command = ["index", "build", str(tmp_path / "i"), str(file), "--embedder", "hash:32"]
    done = CliRunner().invoke(app, [*command, "--engine", "process", "--workers", "2"])
    assert done.exit_code == 0, done.output
    with Index.create(tmp_path / "j", embedder="hash:32") as alone, Index.open(tmp_path / "i") as index:
        alone.add([Document(text, id=str(n)) for n, text in enumerate(TEXTS)])
        assert content(index) == content(alone)
    refused = CliRunner().invoke(app, [*command, "--engine", "threads"])
    assert isinstance(refused.exception, InvalidInputError)
