"""Contrastive training of an encoder on pairs of texts (SetFit)."""

import numpy as np
import pytest
import torch

from ragkit import Example, finetune, load_model
from ragkit.embedders import load_embedder
from ragkit.errors import UnsupportedError
from ragkit.finetuning._pair_loss import pair_loss
from ragkit_pipelines.compare.strategies.training import EncoderTuning

LABELLED = [
    Example(f"{word} {n}", label)
    for word, label in (("card", "bank"), ("cake", "food"), ("cat", "pet"))
    for n in range(5)
]


def test_the_loss_is_the_mean_over_pairs_of_both_kinds():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(7, 5)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    labels = [0, 0, 1, 2, 1, 0, 2]
    parts = {True: [], False: []}
    for a in range(7):
        for b in range(a + 1, 7):
            equal = labels[a] == labels[b]
            parts[equal].append((float(vectors[a] @ vectors[b]) - equal) ** 2)
    expected = (np.mean(parts[True]) + np.mean(parts[False])) / 2
    assert float(pair_loss(torch.tensor(vectors), torch.tensor(labels))) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("labels", "expected"), [([0], 0.0), ([0, 0], 0.25), ([0, 1], 0.25)])
def test_batches_with_one_kind_of_pair_or_none_have_a_loss(labels, expected):
    angle = torch.tensor([0.0, torch.pi / 3])[: len(labels)]
    vectors = torch.stack([angle.cos(), angle.sin()], dim=1).requires_grad_()
    loss = pair_loss(vectors, torch.tensor(labels))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(expected, abs=1e-6)


def test_an_encoder_learns_that_texts_of_a_label_are_similar(tmp_path):
    tuned = finetune("minilm", LABELLED, method="setfit", epochs=8, output_dir=tmp_path)
    asked = ["a cat sat", "pay by card", "a cake"]
    assert [each.text for each in tuned.model.generate(asked)] == ["pet", "bank", "food"]
    assert (tuned.manifest.form, tuned.manifest.method) == ("model", "setfit")
    assert tuned.manifest.tokens > 0
    scores = tuned.model.score(asked, ["bank", "food", "pet"])
    assert np.array_equal(load_model(f"hf:{tmp_path}").score(asked, ["bank", "food", "pet"]), scores)

    def apart(name):
        vectors = load_embedder(name).embed_documents([row.input for row in LABELLED])
        similarities, same = vectors @ vectors.T, np.equal.outer(*[[row.output for row in LABELLED]] * 2)
        return similarities[same].mean() - similarities[~same].mean()

    assert apart(f"st:{tmp_path / 'model'}") > apart("minilm") + 0.1


def test_language_models_and_other_embedders_are_refused(tmp_path):
    with pytest.raises(UnsupportedError, match="'setfit' takes an embedder"):
        finetune("tiny", LABELLED, method="setfit", output_dir=tmp_path)
    with pytest.raises(UnsupportedError, match="only an embedder of sentence-transformers can be trained"):
        finetune("hash:64", LABELLED, method="setfit", output_dir=tmp_path)


@pytest.mark.parametrize(("rows", "steps"), [(1, 30), (45, 30), (640, 30), (641, 33), (6400, 100)])
def test_small_and_large_pools_take_about_as_many_steps(rows, steps):
    assert EncoderTuning("setfit").training_steps(rows, 0) == steps
