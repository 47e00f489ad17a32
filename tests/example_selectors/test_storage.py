"""Selectors in folders: the same after loading, whole after a crash, refused where damaged or not theirs."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from ragkit._files import checked
from ragkit._lexical.analysis import WordAnalyzer
from ragkit.embedders._hashing import HashingEmbedder
from ragkit.errors import IntegrityError, InvalidInputError, UnsupportedError
from ragkit.records import Example
from ragkit.templates import Template
from ragkit_selectors import (
    BaseSelector,
    BM25Selector,
    Coverage,
    Dpp,
    EmbeddingSelector,
    Guard,
    HybridSelector,
    JaccardSelector,
    LabelBalanced,
    LabelNearest,
    MinScore,
    Mmr,
    NgramSelector,
    Order,
    Pinned,
    Pipeline,
    RandomSelector,
    Rerank,
    TfidfSelector,
    TokenLimit,
)

POOL = [
    Example("dim the lamp", "light", metadata={"lang": "en", "year": 2020, "tags": ["a", None]}),
    {"input": "{0} {name} \u2028 \ud800", "output": "braces", "id": "b", "extra": {"deep": [1.5]}},
    {"input": {"question": "play the song", "context": ""}, "output": "music"},
    Example({"question": "🙂", "context": "c"}, "emoji", id="e"),
]
SOURCES = [
    JaccardSelector(POOL, mode="split"),
    BM25Selector(POOL, k1=0.9, b=0.4),
    TfidfSelector(POOL, grams=("char", 2, 4), sublinear=True),
    NgramSelector(POOL),
    RandomSelector(POOL, seed=7),
    EmbeddingSelector(POOL, embedder="hash:32"),
    HybridSelector(POOL, {"bm25": 1, "embedding": 0.5}, embedder="hash:32", fusion="weighted", depth=2),
]


def shown(selector):
    queries = ["dim the lamp", "", "🙂 c", "{name}"]
    return [[(h.id, h.score, h.metadata, dict(h.why)) for h in s.hits] for s in selector.select_many(queries, 3)]


@pytest.mark.parametrize("selector", SOURCES, ids=lambda each: type(each).__name__)
def test_the_same_after_loading(selector, tmp_path):
    selector.save(tmp_path / "s")
    loaded = BaseSelector.load(tmp_path / "s")
    assert type(loaded) is type(selector)
    assert shown(loaded) == shown(selector)
    assert loaded.add([Example("dim the song", "x")]) == ["4"]
    assert loaded.select("dim the song", 4).examples == loaded.select("dim the song", 4).examples
    loaded.save(tmp_path / "s")
    assert len(type(selector).load(tmp_path / "s")) == 5
    assert len(list((tmp_path / "s").glob("examples-*"))) == 1


def test_a_folder_of_an_older_version_keeps_its_words(tmp_path):
    BM25Selector(POOL, k1=1.5, analyzer=None).save(tmp_path)
    manifest = tmp_path / "selector.json"
    facts = json.loads(checked(manifest.read_bytes()))
    del facts["selector"]["arguments"]["analyzer"]  # which older versions did not write: all had whole words
    manifest.write_text(json.dumps(facts))
    loaded = BM25Selector.load(tmp_path)
    assert (loaded.k1, loaded.analyzer) == (1.5, WordAnalyzer(None))
    assert shown(loaded) == shown(BM25Selector(POOL, k1=1.5, analyzer=None))


def test_an_analyzer_that_cannot_be_saved_is_refused(tmp_path):
    for analyzer in (str.split, WordAnalyzer("english", frozenset({"the"}))):
        with pytest.raises(UnsupportedError, match="cannot be saved"):
            BM25Selector(POOL, analyzer=analyzer).save(tmp_path / "s")
    assert not (tmp_path / "s").exists()
    BM25Selector(POOL, analyzer="german").save(tmp_path / "s")
    assert BM25Selector.load(tmp_path / "s").analyzer == WordAnalyzer("german")


def test_what_was_given_comes_back(tmp_path):
    rows = [{"question": "dim the lamp", "answer": "light", "n": 3, "more": None}, {"question": "sing", "answer": "x"}]
    JaccardSelector(rows, key="question", output="answer").save(tmp_path)
    loaded = JaccardSelector.load(tmp_path)
    assert loaded.as_langchain(k=2).select_examples({"question": "sing"}) == rows


def test_removed_examples_stay_removed_and_ids_are_not_given_again(tmp_path):
    selector = EmbeddingSelector([Example(f"lamp {n}", "x") for n in range(9)], embedder="hash:32")
    selector.remove(["0", "4", "8"])
    selector.save(tmp_path)
    loaded = EmbeddingSelector.load(tmp_path)
    assert [h.id for h in loaded.select("lamp 4", 6).hits] == [h.id for h in selector.select("lamp 4", 6).hits]
    assert loaded.add([Example("lamp 8", "x")]) == ["9"]


def test_stages_are_saved(tmp_path):
    template = Template(query="Q: {input}\nA:")
    stages = (
        Guard(None),
        LabelNearest(fetch_k=7),
        LabelBalanced("output"),
        Mmr(0.3, 9),
        Dpp(0.2),
        Coverage("hash:16"),
        MinScore(jaccard=0.0),
        TokenLimit(500, "words", template),
        Pinned(["b"]),
        Order("shuffled", seed=3),
    )
    selector = BM25Selector(POOL)
    for stage in stages:
        selector |= stage
    selector.save(tmp_path)
    loaded = Pipeline.load(tmp_path)
    assert loaded.stages == stages
    assert shown(loaded) == shown(selector)
    with pytest.raises(InvalidInputError, match="holds a Pipeline, not a BM25Selector"):
        BM25Selector.load(tmp_path)


@pytest.mark.parametrize(
    "stage", [Rerank(lambda prompts, answers: np.zeros(len(prompts))), TokenLimit(9, len), Coverage(HashingEmbedder(8))]
)
def test_what_cannot_be_saved_says_so_and_writes_nothing(stage, tmp_path):
    with pytest.raises(UnsupportedError, match="cannot be saved"):
        (BM25Selector(POOL) | stage).save(tmp_path / "s")
    with pytest.raises(InvalidInputError, match="example '0' cannot be written as JSON"):
        BM25Selector([Example("a", "b", metadata={"when": object()})]).save(tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_another_embedder_is_refused(tmp_path):
    EmbeddingSelector(POOL, embedder="hash:32").save(tmp_path)
    with pytest.raises(InvalidInputError, match=r"embedded by 'hash:32'.*'hash:64' gives other vectors"):
        EmbeddingSelector.load(tmp_path, embedder="hash:64")
    assert len(EmbeddingSelector.load(tmp_path, embedder=HashingEmbedder(32))) == 4


def test_an_embedder_of_another_place_is_passed_to_load(tmp_path):
    class Elsewhere(HashingEmbedder):
        name = "st:someone/model"

    embedder = Elsewhere(32)
    EmbeddingSelector(POOL, embedder=embedder).save(tmp_path)
    with pytest.raises(InvalidInputError, match=r"'st:someone/model'.*pass it as `embedder`"):
        EmbeddingSelector.load(tmp_path)
    assert shown(EmbeddingSelector.load(tmp_path, embedder=embedder)) == shown(
        EmbeddingSelector(POOL, embedder=embedder)
    )


def test_damage_is_found(tmp_path):
    for name, message in (("examples", "is not what was saved"), ("vectors", "is not what was saved")):
        folder = tmp_path / name
        EmbeddingSelector(POOL, embedder="hash:32").save(folder)
        path = next(folder.glob(f"{name}-*"))
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        with pytest.raises(IntegrityError, match=message):
            BaseSelector.load(folder)
        path.unlink()
        with pytest.raises(IntegrityError, match="is missing"):
            BaseSelector.load(folder)
    manifest = tmp_path / "vectors" / "selector.json"
    for text in (manifest.read_text()[:-20], json.dumps(json.loads(manifest.read_text()) | {"format": 2})):
        manifest.write_text(text)
        with pytest.raises(IntegrityError, match="damaged or newer"):
            BaseSelector.load(tmp_path / "vectors")


def test_a_manifest_cannot_name_files_elsewhere(tmp_path):
    folder = tmp_path / "s"
    BM25Selector(POOL).save(folder)
    secret = tmp_path / "secret.jsonl"
    secret.write_text("{}")
    facts = json.loads(checked((folder / "selector.json").read_bytes()))
    facts["examples"] = {"name": "../secret.jsonl", "sha256": hashlib.sha256(secret.read_bytes()).hexdigest()}
    (folder / "selector.json").write_text(json.dumps(facts))
    with pytest.raises(IntegrityError, match=r"secret\.jsonl is missing"):
        BaseSelector.load(folder)


def test_folders_of_others_are_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    for path in (tmp_path, tmp_path / "thesis.txt"):
        with pytest.raises(InvalidInputError, match="something other than a selector"):
            BM25Selector(POOL).save(path)
        with pytest.raises(InvalidInputError, match="holds no selector"):
            BM25Selector.load(path)
    assert [each.name for each in tmp_path.iterdir()] == ["thesis.txt"]
    for name in ("examples-train.jsonl", "vectors-of-mine.npy"):
        own = tmp_path / "own" / name
        own.parent.mkdir()
        own.write_text("years of work")
        with pytest.raises(InvalidInputError, match="something other than a selector"):
            BM25Selector(POOL).save(own.parent)
        assert own.read_text() == "years of work"
        own.unlink()
        own.parent.rmdir()
    BM25Selector(POOL).save(tmp_path / "s")
    (tmp_path / "s" / "selector.json").rename(tmp_path / "s" / "selector.json.partial")  # as a crash can leave it
    BM25Selector(POOL).save(tmp_path / "s")
    assert len(BM25Selector.load(tmp_path / "s")) == len(POOL)


CHILD = """
import sys
from ragkit._lexical.analysis import WordAnalyzer
from ragkit.records import Example
from ragkit_selectors import EmbeddingSelector
for size in range(1, 100_000):
    pool = [Example(f"text {n} of {size} " + "x" * 2000, "out") for n in range(20 + size % 7)]
    EmbeddingSelector(pool, embedder="hash:32").save(sys.argv[1])
    print(size, flush=True)
"""


def test_a_killed_save_leaves_a_whole_selector(tmp_path):
    folder = tmp_path / "s"
    rng = np.random.default_rng(0)
    for _ in range(4):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(folder)],
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": ":".join(filter(None, sys.path))},
        )
        child.stdout.readline()  # one save is through
        time.sleep(0.02 + 0.1 * rng.random())
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        loaded = EmbeddingSelector.load(folder)
        size = loaded.select("text", 1)[0].input.split()[3]
        assert len(loaded) == 20 + int(size) % 7
        assert all(f" of {size} " in example.input for example in loaded.select("text", len(loaded)))


@pytest.mark.parametrize(
    ("old", "new", "error", "message"),
    [
        ('"kind": "Mmr"', '"kind": "Msr"', InvalidInputError, "a stage Msr was saved there, .* update it"),
        ('"trade_off"', '"tradeoff"', IntegrityError, "damaged or newer than this ragkit: .*tradeoff"),
        ('"k1"', '"k2"', IntegrityError, "damaged or newer than this ragkit: .*k2"),
    ],
)
def test_a_folder_of_a_newer_version_says_so(tmp_path, old, new, error, message):
    (BM25Selector(POOL) | Mmr()).save(tmp_path / "s")
    manifest = tmp_path / "s" / "selector.json"
    text = checked(manifest.read_bytes()).decode()
    assert old in text
    manifest.write_text(text.replace(old, new))
    with pytest.raises(error, match=message):
        BaseSelector.load(tmp_path / "s")


def test_a_setting_that_changed_is_refused(tmp_path):
    BM25Selector(POOL, k1=1.25).save(tmp_path / "s")
    manifest = tmp_path / "s" / "selector.json"
    manifest.write_bytes(manifest.read_bytes().replace(b"1.25", b"1.75"))
    with pytest.raises(IntegrityError):
        BaseSelector.load(tmp_path / "s")


def test_a_class_that_the_program_does_not_know_is_named(tmp_path):
    from ragkit_selectors import FixedSelector

    class Passing(FixedSelector):
        pass

    Passing(POOL).save(tmp_path / "own")
    assert isinstance(Passing.load(tmp_path / "own"), Passing)
    manifest = tmp_path / "own" / "selector.json"
    manifest.write_bytes(checked(manifest.read_bytes()).replace(b"Passing", b"Missing"))
    with pytest.raises(InvalidInputError, match="Missing"):
        FixedSelector.load(tmp_path / "own")
