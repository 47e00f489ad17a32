"""Models, embedders and training on a real card: everything runs, and says what the CPU says but for rounding."""

from pathlib import Path

import numpy as np
import pytest

from ragkit import Example, finetune, load_embedder, load_model
from ragkit.models import AdapterSet
from ragkit.models._devices import default_device, dtype_for
from ragkit.records import Preference, Prompt
from ragkit.retriever_training import finetune_embedder
from ragkit.tiny import WEIGHTS

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.gpu

SHARED = "Input: dim the lamp\nOutput: fade lamp\n\nInput: light the lamp\nOutput: glow lamp\n\n" * 4
PROMPTS = [Prompt(SHARED, f"Input: {verb} the fan\nOutput:") for verb in ("dim", "light")]
ROWS = [Example(f"{word} the {thing}", f"{symbol} {thing}") for word, symbol in (("dim", "fade"), ("light", "glow"))
        for thing in ("lamp", "fan", "song", "door")]  # fmt: skip
LABELLED = [Example(f"{word} {n}", label) for word, label in (("card", "bank"), ("cat", "pet")) for n in range(8)]


@pytest.fixture(autouse=True)
def _card():
    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU; install a build of it with CUDA on a machine with one")


def test_a_model_says_what_the_cpu_says():
    from transformers import AutoModelForCausalLM

    model = load_model("tiny")
    assert (model.module.device.type, model.module.dtype) == (default_device(), dtype_for("auto", torch.float32))
    assert [answer.text for answer in model.generate(PROMPTS, max_tokens=2)] == [" fade fan", " glow fan"]
    plain = AutoModelForCausalLM.from_pretrained(WEIGHTS, dtype=torch.float32).eval()
    tails = [model.encode_text(choice) for choice in (" fade", " glow")]
    with torch.inference_mode():
        logits = [plain(torch.tensor([model.encode_prompt(prompt)])).logits[0, -1] for prompt in PROMPTS]
    expected = [[float(line.double().log_softmax(-1)[tail[0]]) for tail in tails] for line in logits]
    np.testing.assert_allclose(model.score(PROMPTS, [" fade", " glow"]), expected, atol=0.5)


def test_every_kind_of_asking():
    model = load_model("tiny")
    drawn = [model.generate(PROMPTS[0], max_tokens=6, temperature=2.0, seed=seed).text for seed in (1, 1, 2, 3)]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) > 1
    assert model.generate(PROMPTS, choices=[" fade fan", " glow fan"], max_tokens=8)[1].text == " glow fan"
    schema = {"type": "object", "properties": {"a": {"enum": ["x", "y"]}}, "required": ["a"]}
    assert model.generate("a", schema=schema, max_tokens=40).parsed["a"] in {"x", "y"}
    assert "".join(model.stream(PROMPTS[0], max_tokens=2)) == " fade fan"
    assert model.generate(PROMPTS[0], max_tokens=8, stop=["\n\n"]).text == " fade fan"


@pytest.mark.parametrize("method", ["lora", "full", "last-layers", "prompt-tuning"])
def test_training(tmp_path: Path, method: str):
    tuned = finetune("tiny", ROWS, method=method, epochs=2, eval=ROWS[:2], output_dir=tmp_path)
    assert np.isfinite([tuned.manifest.loss, tuned.manifest.eval_loss]).all()
    prompt = tuned.manifest.template.prompt([], "dim the fan")
    loaded = load_model(f"hf:{tmp_path}")
    assert loaded.generate(prompt, max_tokens=4).text == tuned.model.generate(prompt, max_tokens=4).text


def test_adapters_on_adapters_and_preferences(tmp_path: Path):
    first = finetune("tiny", ROWS, epochs=1, output_dir=tmp_path / "first")
    second = finetune("tiny", ROWS, epochs=2, seed=1, output_dir=tmp_path / "second")
    models = AdapterSet("tiny", {"first": first.folder, "second": second.folder})
    assert len(models.generate_mixed(PROMPTS * 2, ["first", None, "second", "first"], max_tokens=4)) == 4
    pairs = [Preference(row.input, row.output, "hush door") for row in ROWS]
    preferred = finetune(first.model, pairs, objective="preference", epochs=1, output_dir=tmp_path / "preferred")
    assert preferred.manifest.form == "model"


def test_four_bits(tmp_path: Path):
    pytest.importorskip("bitsandbytes")
    tuned = finetune("tiny", ROWS, method="qlora", epochs=1, gradient_checkpointing=True, output_dir=tmp_path)
    assert tuned.model.fingerprint.partition(":")[2].startswith("4bit+")
    assert tuned.model.score(PROMPTS, [" fade"]).shape == (2, 1)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_an_embedder(dtype: str):
    texts = ["dim the lamp in the hall", "", "the river runs to the sea " * 40]
    embedder = load_embedder("minilm", dtype=dtype)
    assert embedder.model.device.type == default_device()
    plain = type(embedder)(embedder.source, device="cpu").embed_documents(texts)
    assert (embedder.embed_documents(texts) * plain).sum(axis=1).min() > 0.999
    assert [rows.shape[1] for rows in embedder.embed_tokens(texts)] == [384] * 3


@pytest.mark.parametrize("method", ["classifier-head", "full", "lora"])
def test_classifiers(tmp_path: Path, method: str):
    tuned = finetune("minilm", LABELLED, method=method, epochs=2, output_dir=tmp_path)
    assert [answer.text for answer in tuned.model.generate(["pay by card", "a cat sat"])] == ["bank", "pet"]


def test_retriever_training(tmp_path: Path):
    trained = finetune_embedder("minilm", [("dim it", "lamp"), ("play it", "song")] * 4, output_dir=tmp_path / "out")
    assert np.isfinite(load_embedder(trained.spec).embed_queries(["dim it"])).all()
