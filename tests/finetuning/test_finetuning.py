import json
import random

import numpy as np
import pytest
import torch

from ragkit import Example, Template, finetune, load_embedder, load_model
from ragkit.errors import (
    EmptyPoolError,
    IntegrityError,
    InvalidInputError,
    TruncationWarning,
    UnknownSpecError,
    UnsupportedError,
)
from ragkit.finetuning._encoding import encode_rows

ROWS = [Example(f"{word} the lamp", f"{symbol} lamp") for word, symbol in (("dim", "fade"), ("light", "glow"))] * 4
SETTINGS = {"method": "lora", "epochs": 15, "learning_rate": 5e-3, "seed": 3}
ASK = Template().prompt([], "dim the lamp")


def answer(model):
    return Template().read_answer(model.generate(ASK, max_tokens=12, stop=("\n\n",)).text)


def test_lora_learns_is_stored_and_is_loaded_again(tmp_path, tiny):
    before = answer(tiny)
    state = random.getstate()
    tuned = finetune("tiny", ROWS, output_dir=tmp_path / "a", **SETTINGS)
    assert random.getstate() == state
    assert answer(tuned.model) == "fade lamp"
    assert before != "fade lamp"
    assert answer(load_model("tiny")) == before
    again = load_model(f"hf:{tmp_path / 'a'}")
    assert again.fingerprint == tuned.model.fingerprint != tiny.fingerprint
    assert answer(again) == "fade lamp"
    assert tuned.manifest.rows == {"kept": 8, "truncated": 0, "dropped": 0}
    assert tuned.manifest.template == Template(form="text")
    same = finetune("tiny", ROWS, output_dir=tmp_path / "b", **SETTINGS)
    assert same.model.fingerprint.split("+")[0] == tuned.model.fingerprint.split("+")[0]
    weights = [(tmp_path / name / "model/adapter_model.safetensors").read_bytes() for name in "ab"]
    assert weights[0] == weights[1]


def test_a_finished_run_is_not_trained_again_and_another_is_refused(tmp_path):
    quick = {"method": "full", "epochs": 1}
    finetune("tiny", ROWS, output_dir=tmp_path, **quick)
    stamp = (tmp_path / "model/model.safetensors").stat().st_mtime_ns
    finetune("tiny", ROWS, output_dir=tmp_path, **quick)
    assert (tmp_path / "model/model.safetensors").stat().st_mtime_ns == stamp
    with pytest.raises(InvalidInputError, match="holds another fine-tuned model"):
        finetune("tiny", ROWS[:4], output_dir=tmp_path, **quick)


def test_an_unfinished_run_goes_on_from_its_checkpoint(tmp_path, tiny, monkeypatch):
    import ragkit.finetuning._causal as causal

    class Killed(Exception):
        pass

    class DiesInTheThirdEpoch(causal.StepProgress):
        def on_epoch_begin(self, args, state, control, **_):
            if state.epoch >= 2:
                raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(causal, "StepProgress", DiesInTheThirdEpoch)
        with pytest.raises(Killed):
            finetune("tiny", ROWS, output_dir=tmp_path / "a", **SETTINGS)
    assert not (tmp_path / "a/ragkit.json").exists()
    with pytest.raises(InvalidInputError, match="holds no model"):
        load_model(f"hf:{tmp_path / 'a'}")
    with pytest.raises(InvalidInputError, match="unfinished run with other data"):
        finetune("tiny", ROWS[:2], output_dir=tmp_path / "a", **SETTINGS)
    finetune("tiny", ROWS, output_dir=tmp_path / "a", **SETTINGS)
    finetune("tiny", ROWS, output_dir=tmp_path / "b", **SETTINGS)
    weights = [(tmp_path / name / "model/adapter_model.safetensors").read_bytes() for name in "ab"]
    assert weights[0] == weights[1]


def test_loss_covers_the_answer_only_in_the_template_of_use(tiny):
    rows, _ = encode_rows(tiny, [(ROWS[0], Template(instruction="Turn it."))], 2048)
    trained = [token for token in rows[0]["labels"] if token != -100]
    asked = [token for token, label in zip(rows[0]["input_ids"], rows[0]["labels"], strict=True) if label == -100]
    assert tiny.tokenizer.decode(trained) == " fade lamp\n\n<eos>"
    assert asked == tiny.encode_prompt(Template(instruction="Turn it.").prompt([], "dim the lamp"))


def test_what_does_not_fit_is_counted(tiny):
    long = [Example("lamp " * 3000, "fade"), Example("dim", "fade " * 3000), ROWS[0]]
    with pytest.warns(TruncationWarning, match="1 lost the beginning of their prompt and 1 were dropped"):
        rows, counts = encode_rows(tiny, [(row, Template()) for row in long], tiny.capabilities.window)
    assert counts == {"kept": 1, "truncated": 1, "dropped": 1}
    assert max(len(row["input_ids"]) for row in rows) <= tiny.capabilities.window
    assert tiny.tokenizer.decode([t for t in rows[0]["labels"] if t != -100]) == " fade\n\n<eos>"


def test_another_base_is_refused(tmp_path):
    finetune("tiny", ROWS, output_dir=tmp_path, method="lora", epochs=1)
    manifest = json.loads((tmp_path / "ragkit.json").read_text())
    (tmp_path / "ragkit.json").write_text(json.dumps(manifest | {"base_fingerprint": "0" * 16}))
    with pytest.raises(IntegrityError, match="train again"):
        load_model(f"hf:{tmp_path}")
    (tmp_path / "ragkit.json").write_text("{")
    with pytest.raises(IntegrityError, match="damaged"):
        load_model(f"hf:{tmp_path}")


LABELLED = [
    Example(f"{word} {n}", label)
    for word, label in (("card", "bank"), ("cake", "food"), ("cat", "pet"))
    for n in range(5)
]


def test_classifier_head_equals_scikit_learn(tmp_path):
    from sklearn.linear_model import LogisticRegression

    tuned = finetune("hash:64", LABELLED, method="classifier-head", output_dir=tmp_path)
    embedder = load_embedder("hash:64")
    oracle = LogisticRegression(C=20.0, max_iter=500).fit(
        embedder.embed_documents([row.input for row in LABELLED]), [row.output for row in LABELLED]
    )
    asked = ["card please", "my cat", "a cake"]
    expected = oracle.predict_log_proba(embedder.embed_queries(asked))
    assert np.allclose(tuned.model.score(asked, list(oracle.classes_)), expected, atol=1e-4)
    assert [c.text for c in load_model(f"hf:{tmp_path}").generate(asked)] == ["bank", "pet", "food"]
    with pytest.raises(InvalidInputError, match="not among the 3 labels"):
        tuned.model.score(["x"], ["plant"])


def test_two_labels_are_probabilities_too(tmp_path):
    tuned = finetune("hash:64", LABELLED[:10], method="classifier-head", output_dir=tmp_path)
    scores = tuned.model.score(["card 9", "cake 9"], ["bank", "food"])
    assert np.allclose(np.exp(scores).sum(axis=1), 1)
    assert scores.argmax(axis=1).tolist() == [0, 1]


def test_the_encoder_itself_is_trained(tmp_path):
    frozen = finetune("minilm", LABELLED, method="classifier-head", output_dir=tmp_path / "head")
    tuned = finetune("minilm", LABELLED, method="full", epochs=2, output_dir=tmp_path / "full")
    assert [c.text for c in tuned.model.generate(["a cat sat", "pay by card"])] == ["pet", "bank"]
    assert not np.allclose(
        frozen.model.score(["a cat sat"], ["pet"]), tuned.model.score(["a cat sat"], ["pet"]), atol=1e-4
    )
    again = load_model(f"hf:{tmp_path / 'full'}")
    assert torch.allclose(
        torch.tensor(again.score(["a cat sat"], ["pet"])), torch.tensor(tuned.model.score(["a cat sat"], ["pet"]))
    )


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"method": "loar"}, UnknownSpecError, "Did you mean 'lora'"),
        ({"train": []}, EmptyPoolError, "empty pool"),
        ({"epochs": 0}, InvalidInputError, "`epochs` must be above 0"),
        ({"epochs": float("nan")}, InvalidInputError, "`epochs` must be above 0"),
        ({"epochs": float("inf")}, InvalidInputError, "`epochs` must be above 0"),
        ({"seed": -1}, InvalidInputError, "`seed` must be a whole number from 0"),
        ({"seed": 2**32}, InvalidInputError, "`seed` must be a whole number from 0"),
        ({"seed": 1.5}, InvalidInputError, "`seed` must be a whole number from 0"),
        ({"learning_rate": 2}, InvalidInputError, "`learning_rate` must be between"),
        ({"model": "hash:8", "method": "last-layers"}, UnsupportedError, "an encoder takes"),
        ({"model": "hash:8", "method": "lora"}, UnsupportedError, "only an embedder of sentence-transformers"),
        ({"model": "tiny", "method": "classifier-head"}, UnsupportedError, "takes an embedder"),
        ({"model": "hash:8", "method": "classifier-head", "train": ROWS[:1]}, InvalidInputError, "two labels"),
    ],
)
def test_bad_calls_leave_no_folder(tmp_path, arguments, error, message):
    settings = {"model": "tiny", "train": ROWS, "method": "lora", "output_dir": tmp_path / "out"} | arguments
    model, train = settings.pop("model"), settings.pop("train")
    with pytest.raises(error, match=message):
        finetune(model, train, **settings)
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def prompting(tmp_path_factory) -> str:
    """MiniLM with a prompt for questions and another one for documents."""
    from sentence_transformers import SentenceTransformer

    folder = tmp_path_factory.mktemp("prompting")
    prompts = {"query": "question about money: ", "document": "passage: "}
    SentenceTransformer(load_embedder("minilm").source, device="cpu", prompts=prompts).save(str(folder))
    return f"st:{folder}"


@pytest.mark.parametrize("method", ["classifier-head", "full"])
def test_an_embedder_with_prompts_is_asked_as_it_was_trained(tmp_path, prompting, method):
    tuned = finetune(prompting, LABELLED, method=method, epochs=1, learning_rate=1e-12, output_dir=tmp_path)
    vectors = load_embedder(prompting).embed_documents(["a cat sat", "pay by card"])
    logits = vectors @ tuned.model.weight.T + tuned.model.bias
    expected = logits - np.logaddexp.reduce(logits, axis=1)[:, None]
    assert np.allclose(tuned.model.score(["a cat sat", "pay by card"], tuned.model.labels), expected, atol=1e-3)


def test_an_encoder_is_trained_on_its_prompt_and_the_text(tmp_path, prompting, monkeypatch):
    from ragkit.finetuning import _encoder as encoder

    seen, collate = [], encoder.DataCollatorWithPadding.__call__

    def collating(collator, rows):
        seen.extend(row["input_ids"] for row in rows)
        return collate(collator, rows)

    monkeypatch.setattr(encoder.DataCollatorWithPadding, "__call__", collating)
    finetune(prompting, LABELLED, method="lora", epochs=1, output_dir=tmp_path)
    tokenizer = load_embedder(prompting).model.tokenizer
    assert {tokenizer.decode(ids, skip_special_tokens=True) for ids in seen} == {
        f"passage : {row.input}" for row in LABELLED
    }


def test_the_loss_of_a_head_is_that_of_scikit_learn(tmp_path):
    from sklearn.metrics import log_loss

    tuned = finetune("hash:64", LABELLED, method="classifier-head", output_dir=tmp_path)
    told = np.exp(tuned.model.score([row.input for row in LABELLED], tuned.model.labels))
    expected = log_loss([row.output for row in LABELLED], told, labels=list(tuned.model.labels))
    assert tuned.manifest.loss == pytest.approx(expected, abs=1e-5)


class _Foreign:
    """Embeddings of LangChain, which no name loads."""

    model = "m"

    def embed_documents(self, texts):
        return [[float(len(text)), 1.0] for text in texts]

    def embed_query(self, text):
        return self.embed_documents([text])[0]


@pytest.mark.parametrize(
    "given", [lambda: load_embedder(_Foreign()), lambda: load_embedder("minilm", dtype="bfloat16")]
)
def test_an_embedder_that_its_name_does_not_load_is_refused_before_training(tmp_path, given):
    with pytest.raises(UnsupportedError, match="could not be loaded later"):
        finetune(given(), LABELLED, method="classifier-head", output_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "damage", [lambda whole: whole[: len(whole) // 2], lambda _: b"", lambda _: b"PK\x03\x04 nothing"]
)
def test_a_damaged_head_is_named(tmp_path, damage):
    finetune("hash:8", LABELLED, method="classifier-head", output_dir=tmp_path)
    file = tmp_path / "head.npz"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(IntegrityError, match=r"head.npz is missing or damaged .* train again"):
        load_model(f"hf:{tmp_path}")


@pytest.mark.parametrize("weight", [np.zeros((3, 9)), np.zeros((2, 8)), np.zeros(3)])
def test_a_head_of_another_shape_is_refused(tmp_path, weight):
    finetune("hash:8", LABELLED, method="classifier-head", output_dir=tmp_path)
    np.savez(tmp_path / "head.npz", weight=weight, bias=np.zeros(3))
    with pytest.raises(IntegrityError, match=r"expected \(3, 8\); train again"):
        load_model(f"hf:{tmp_path}")


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("mine")
    for folder, said in ((tmp_path / "file", "is a file"), (tmp_path / "file" / "run", "cannot be written")):
        with pytest.raises(InvalidInputError, match=f"{said}.*give another `output_dir`"):
            finetune("hash:8", LABELLED, method="classifier-head", output_dir=folder)
    assert (tmp_path / "file").read_text() == "mine"
