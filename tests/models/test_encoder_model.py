"""Encoders that choose: by value against plain cosines, and against labels that mean what they say."""

import numpy as np
import pytest

from ragkit import load_model
from ragkit.embedders import HashingEmbedder
from ragkit.errors import UnsupportedError
from ragkit.models._encoder import EncoderModel
from ragkit.records import Prompt

CHOICES = ["turn a lamp down", "lock the front door", "play some music"]


def test_scores_are_a_softmax_over_cosines():
    embedder = HashingEmbedder(64)
    model = EncoderModel(embedder, scale=7.0)
    prompts = ["turn the lamp", Prompt("play ", "music"), ""]
    rows = embedder.embed_queries(["turn the lamp", "play music", ""]).astype(np.float64)
    cosines = 7.0 * rows @ embedder.embed_documents(CHOICES).astype(np.float64).T
    expected = np.exp(cosines) / np.exp(cosines).sum(1, keepdims=True)
    np.testing.assert_allclose(np.exp(model.score(prompts, [f" {choice}" for choice in CHOICES])), expected, atol=1e-6)
    answers = model.generate(prompts, choices=CHOICES)
    assert [answer.text for answer in answers] == ["turn a lamp down", "play some music", "turn a lamp down"]
    assert model.score([], CHOICES).shape == (0, 3)
    assert model.score(["a"], []).shape == (1, 0)


def test_an_encoder_writes_nothing():
    with pytest.raises(UnsupportedError, match="give it `choices`"):
        EncoderModel("hash:8").generate("a")


def test_minilm_knows_what_labels_mean():
    model = load_model("minilm")
    asked = ["could you dim the light in here?", "make sure nobody gets in", "put on that song I like"]
    assert [answer.text for answer in model.generate(asked, choices=CHOICES)] == CHOICES
    assert model.name == "minilm"
    assert load_model("minilm").fingerprint == model.fingerprint != EncoderModel("minilm", scale=1.0).fingerprint
