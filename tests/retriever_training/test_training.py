"""Short training runs of MiniLM: what they learn, what they leave behind, and what refuses them."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from ragkit import DenseRetriever, Document, Index, RerankingRetriever, load_embedder
from ragkit.errors import EmptyPoolError, IntegrityError, InvalidInputError, TrainingError, UnsupportedError
from ragkit.index import rebuild_index
from ragkit.retriever_training import (
    ScoredPassages,
    TrainingPair,
    distill_embedder,
    finetune_embedder,
    finetune_reranker,
)
from ragkit.retriever_training._runs import RECORD, TrainingRecord
from ragkit_pipelines.cli.main import app

COLOURS = ["red", "blue", "green", "grey", "black", "white", "brown", "pink"]
ANIMALS = ["heron", "otter", "weasel", "lynx", "badger", "raven", "ibex", "stoat"]
# What no model knows before: which animal a colour stands for.
PAIRS = [
    TrainingPair(f"colour {colour}", f"the {ANIMALS[at]}", (f"the {ANIMALS[at - 1]}",))
    for at, colour in enumerate(COLOURS)
]
QUICK = {"batch_size": 4, "max_length": 16, "learning_rate": 2e-4}


def margins(spec):
    """Cosine with the passage less that with the negative, for each pair."""
    embedder = load_embedder(spec)
    asked = embedder.embed_queries([pair.query for pair in PAIRS])
    right = embedder.embed_documents([pair.passage for pair in PAIRS])
    wrong = embedder.embed_documents([pair.negatives[0] for pair in PAIRS])
    return ((right - wrong) * asked).sum(axis=1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return finetune_embedder("minilm", PAIRS, output_dir=tmp_path_factory.mktemp("run") / "e", epochs=2, **QUICK)


def test_an_embedder_learns_what_it_was_shown(trained):
    assert margins(trained.spec).mean() > margins("minilm").mean() + 0.05
    assert trained.record.objective == "multiple-negatives-ranking"
    assert (trained.record.rows, trained.record.base) == (8, "minilm")
    assert load_embedder(trained.spec).window == load_embedder("minilm").window
    assert [path.name for path in trained.folder.parent.iterdir()] == ["e"]  # nothing hidden is left beside it


@pytest.mark.filterwarnings("ignore:the index names the embedder")
def test_an_index_of_the_old_embedder_is_refused_and_rebuilt(trained, tmp_path):
    documents = [Document(f"the {animal}", id=animal, metadata={"n": at}) for at, animal in enumerate(ANIMALS)]
    with Index.create(tmp_path / "old", embedder="minilm") as old:
        old.add(documents)
        old.index_field("n")
    new = load_embedder(trained.spec)
    assert new.fingerprint != load_embedder("minilm").fingerprint
    with pytest.raises(InvalidInputError, match=r"gives other vectors .*ragkit index rebuild"):
        Index.open(tmp_path / "old", embedder=new)
    with Index.open(tmp_path / "old") as old:
        with rebuild_index(old, tmp_path / "new", embedder=new) as rebuilt:
            assert rebuilt.get(ANIMALS) == documents
            np.testing.assert_allclose(
                rebuilt.get_vectors(ANIMALS), new.embed_documents([each.text for each in documents]), atol=1e-5
            )
        old.delete(["heron"])
        with rebuild_index(old, tmp_path / "new", embedder=new) as rebuilt:  # once more: it follows
            assert {hit.id for hit in rebuilt.search("animal", k=9)} == set(ANIMALS) - {"heron"}
        with pytest.raises(InvalidInputError, match="is the index that is read"):
            rebuild_index(old, tmp_path / "old", embedder=new)
    with Index.open(tmp_path / "new") as again:  # its own name leads back to the folder
        assert again.embedder.fingerprint == new.fingerprint


def test_the_same_run_is_not_trained_again_and_gives_the_same_weights(trained, tmp_path):
    before = (trained.folder / RECORD).stat().st_mtime_ns
    again = finetune_embedder("minilm", PAIRS, output_dir=trained.folder, epochs=2, **QUICK)
    assert again == trained
    assert (trained.folder / RECORD).stat().st_mtime_ns == before
    with pytest.raises(InvalidInputError, match="holds another trained model"):
        finetune_embedder("minilm", PAIRS, output_dir=trained.folder, epochs=2, seed=1, **QUICK)
    other = finetune_embedder("minilm", PAIRS, output_dir=tmp_path / "other", epochs=2, **QUICK)
    assert load_embedder(other.spec).fingerprint == load_embedder(trained.spec).fingerprint


def test_a_stopped_run_leaves_no_folder_and_goes_on_to_the_same_weights(trained, tmp_path, monkeypatch):
    from ragkit.retriever_training import _training as training

    class Stopping(training.StepProgress):
        def on_epoch_begin(self, _arguments, state, *_, **__):
            if state.epoch >= 1:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "StepProgress", Stopping)
        with pytest.raises(KeyboardInterrupt):
            finetune_embedder("minilm", PAIRS, output_dir=tmp_path / "e", epochs=2, **QUICK)
    assert not (tmp_path / "e").exists()
    assert list((tmp_path / ".e.training/checkpoints").iterdir())
    done = finetune_embedder("minilm", PAIRS, output_dir=tmp_path / "e", epochs=2, **QUICK)
    assert load_embedder(done.spec).fingerprint == load_embedder(trained.spec).fingerprint
    assert [path.name for path in tmp_path.iterdir()] == ["e"]


def test_a_loss_that_is_no_number_leaves_nothing(tmp_path, monkeypatch):
    from ragkit.retriever_training import _training as training

    monkeypatch.setattr(
        training.SentenceTransformerTrainer, "training_step", lambda *_, **__: training.torch.tensor(float("nan"))
    )
    with pytest.raises(TrainingError, match="the loss became nan in step 1; lower `learning_rate`"):
        finetune_embedder("minilm", PAIRS, output_dir=tmp_path / "e", **QUICK)
    assert not list(tmp_path.iterdir())


def test_a_teachers_ranking_is_learned(tmp_path):
    rows = [
        ScoredPassages(pair.query, (pair.negatives[0], pair.passage), (-9.0, -2.0)) for pair in PAIRS
    ]  # the passage is worse at first
    tuned = distill_embedder("minilm", rows, output_dir=tmp_path / "e", epochs=2, temperature=2.0, **QUICK)
    assert margins(tuned.spec).mean() > margins("minilm").mean() + 0.05
    assert tuned.record.objective == "kl-divergence"


def test_the_distillation_loss_is_the_divergence(tmp_path):
    """The loss of the only step, by hand from the base's cosines; dropout makes it differ a little."""
    rows = [
        ScoredPassages(pair.query, (pair.passage, pair.negatives[0]), (-1.0, -1.5 - at))
        for at, pair in enumerate(PAIRS)
    ]
    one_step = {"batch_size": 8, "learning_rate": 1e-6}
    run = distill_embedder("minilm", rows, output_dir=tmp_path / "e", temperature=3.0, scale=5.0, **one_step)
    embedder = load_embedder("minilm")
    asked = embedder.embed_queries([row.query for row in rows])
    cosines = np.stack([
        (asked * embedder.embed_documents([row.passages[place] for row in rows])).sum(axis=1) for place in (0, 1)
    ], axis=1)  # fmt: skip

    def softmax(values):
        powers = np.exp(values - values.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    teacher, student = softmax(np.array([row.scores for row in rows]) / 3), softmax(5 * cosines)
    assert run.record.loss == pytest.approx((teacher * np.log(teacher / student)).sum(axis=1).mean(), rel=0.15)


def test_a_reranker_is_trained_and_used_by_its_name(tmp_path):
    pairs = [
        TrainingPair(f"which is {word}", f"it is {word}", tuple(f"it is {COLOURS[at - back]}" for back in (1, 2, 3)))
        for at, word in enumerate(COLOURS)
    ]
    made = finetune_reranker("minilm", pairs, output_dir=tmp_path / "r", **QUICK)
    assert made.spec == f"cross-encoder:{tmp_path / 'r'}"
    with Index.create(None, embedder="hash:64") as index:
        index.add([pair.passage for pair in pairs])
        hits = RerankingRetriever(DenseRetriever(index), made.spec).retrieve("which is red", k=8)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert len(hits) == 8
    assert all(np.isfinite(hit.why["rerank"]) for hit in hits)
    further = finetune_reranker(made.spec, pairs, output_dir=tmp_path / "further", **QUICK)
    assert further.record.base_fingerprint != made.record.base_fingerprint


@pytest.mark.parametrize(
    ("base", "pairs", "arguments", "error", "message"),
    [
        ("minilm", [], {}, EmptyPoolError, "empty pool"),
        ("hash:384", PAIRS, {}, UnsupportedError, "'hash:384' is none"),
        ("minilmm", PAIRS, {}, InvalidInputError, "Did you mean 'minilm'"),
        ("st:no/such/folder/at/all", PAIRS, {}, InvalidInputError, "cannot be loaded"),
        ("minilm", ["text"], {}, InvalidInputError, r"`pairs\[0\]` must be a TrainingPair"),
        ("minilm", [("query", "")], {}, InvalidInputError, "texts that are not empty"),
        ("minilm", [TrainingPair("q", "p", ("p",))], {}, InvalidInputError, "among its negatives"),
        ("minilm", [TrainingPair("q", "p", "n")], {}, InvalidInputError, "must be a tuple of texts"),
        ("minilm", [TrainingPair("q", "p", ("n",)), ("q", "p")], {}, InvalidInputError, "the same number of negatives"),
        ("minilm", [("q", "p")], {}, InvalidInputError, "give at least 2 pairs"),
        ("minilm", PAIRS, {"epochs": 0}, InvalidInputError, "`epochs` must be above 0"),
        ("minilm", PAIRS, {"learning_rate": 2}, InvalidInputError, "`learning_rate` must be between"),
        ("minilm", PAIRS, {"batch_size": 0}, InvalidInputError, "`batch_size` must be a whole number"),
        ("minilm", PAIRS, {"scale": 0}, InvalidInputError, "`scale` must be a number above 0"),
    ],
)
def test_what_makes_no_sense_is_refused_and_leaves_nothing(tmp_path, base, pairs, arguments, error, message):
    with pytest.raises(error, match=message):
        finetune_embedder(base, pairs, output_dir=tmp_path / "e", **{**QUICK, **arguments})
    assert not list(tmp_path.iterdir())


def test_a_folder_that_holds_something_else_stays_as_it_is(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InvalidInputError, match="is not empty and holds no model trained here"):
        finetune_embedder("minilm", PAIRS, output_dir=tmp_path, **QUICK)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    (tmp_path / RECORD).write_text("{}")
    with pytest.raises(IntegrityError, match="damaged or of another version"):
        TrainingRecord.read(tmp_path)
    with pytest.raises(InvalidInputError, match="at least 1 negative"):
        finetune_reranker("minilm", [("q", "p")], output_dir=tmp_path / "r")
    for rows, message in (
        ([ScoredPassages("q", ("p",), (1.0,))], "at least 2"),
        ([ScoredPassages("q", ("p", "r"), (1.0, float("nan")))], "2 finite numbers"),
        ([ScoredPassages("q", ("p", "r"), (1.0, 2.0)), ScoredPassages("q", ("p",) * 3, (1.0,) * 3)], "as many as"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            distill_embedder("minilm", rows, output_dir=tmp_path / "d")


@pytest.mark.filterwarnings("ignore:the index names the embedder")
def test_the_commands_train_and_rebuild(tmp_path):
    documents = [{"id": animal, "text": f"the {animal}"} for animal in ANIMALS]
    (tmp_path / "docs.jsonl").write_text("\n".join(map(json.dumps, documents)))
    queries = [{"id": colour, "text": f"colour {colour}"} for colour in COLOURS]
    (tmp_path / "queries.jsonl").write_text("\n".join(map(json.dumps, queries)))
    judged = [f"{colour} 0 {animal} 1" for colour, animal in zip(COLOURS, ANIMALS, strict=True)]
    (tmp_path / "qrels.txt").write_text("\n".join(judged))

    def run(*arguments):
        done = CliRunner().invoke(app, list(map(str, arguments)))
        assert done.exception is None, done.exception
        return done.stdout

    run("index", "build", tmp_path / "docs.rag", tmp_path / "docs.jsonl")
    common = [tmp_path / "docs.rag", "--queries", tmp_path / "queries.jsonl", "--qrels", tmp_path / "qrels.txt",
              "--max-length", 16]  # fmt: skip
    shown = run("finetune-embedder", *common, "--out", tmp_path / "e", "--negatives", 2)
    assert "ragkit index rebuild" in shown
    record = json.loads(run("finetune-embedder", *common, "--out", tmp_path / "e", "--negatives", 2, "--json"))
    assert (record["kind"], record["rows"], record["base"]) == ("embedder", 8, "minilm")
    run("index", "rebuild", tmp_path / "docs.rag", tmp_path / "new.rag", "--embedder", f"st:{tmp_path / 'e'}")
    with Index.open(tmp_path / "new.rag") as index:
        assert len(index) == 8
        assert index.embedder.name == f"st:{tmp_path / 'e'}"
    assert "RerankingRetriever" in run("finetune-reranker", *common, "--out", tmp_path / "r", "--retriever", "bm25")


def test_each_column_has_the_prompt_of_use():
    from sentence_transformers import SentenceTransformer

    from ragkit.retriever_training._training import _prompts

    given = {"query": "q: ", "passage": "p: "}
    model = SentenceTransformer(load_embedder("minilm").source, device="cpu", prompts=given)
    model.prompts.pop("document", None)
    columns = {name: [] for name in ("query", "passage", "negative_0", "label")}
    assert _prompts(model, columns) == {"query": "q: ", "passage": "p: ", "negative_0": "p: "}
