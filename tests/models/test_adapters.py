"""Many adapters over one base: each answers as if it were loaded alone, and the base as if there were none."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from random_llama import save_random_llama

from ragkit import Prompt, finetune, load_model
from ragkit._progress import quiet_transformers
from ragkit.errors import IntegrityError, InvalidInputError, UnsupportedError
from ragkit.models import AdapterSet
from ragkit.records import Example
from ragkit.testing import LanguageModelContract

DOCUMENT = "lamp fan vent red blue one two three dim fade " * 8
PROMPTS = [Prompt(DOCUMENT, f"Input: {word}\nOutput:") for word in ("lamp", "the red fan", "one two three four")]
PROMPTS += ["Input: dim the lamp\nOutput:", "red", "one two three one two"]


def save_random_adapter(base, folder, seed, **config):
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    settings = {"r": 4, "target_modules": "all-linear", "init_lora_weights": False, "task_type": "CAUSAL_LM", **config}
    with quiet_transformers():
        get_peft_model(load_model(base).module, LoraConfig(**settings)).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_random_llama(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def folders(base, tmp_path_factory):
    home = tmp_path_factory.mktemp("adapters")
    return {name: save_random_adapter(base, home / name, seed) for seed, name in enumerate(["a", "lora", "c d"], 1)}


@pytest.fixture(scope="module")
def adapters(base, folders):
    return AdapterSet(base, folders)


@pytest.fixture(scope="module")
def expected(base, folders):
    """The answers of models loaded alone."""
    alone = {name: load_model(base, adapter=folder) for name, folder in folders.items()}
    alone[None] = load_model(base)
    texts = {name: [answer.text for answer in model.generate(PROMPTS, max_tokens=10)] for name, model in alone.items()}
    scores = {name: model.score(PROMPTS, [" fade lamp", " red"]) for name, model in alone.items()}
    return texts, scores


class TestOneOfThem(LanguageModelContract):
    @pytest.fixture
    def model(self, adapters):
        return adapters["a"]


class TestTheBase(LanguageModelContract):
    @pytest.fixture
    def model(self, adapters):
        return adapters.base


def of(adapters, name):
    return adapters.base if name is None else adapters[name]


def test_each_answers_as_if_it_were_alone(adapters, expected):
    texts, scores = expected
    assert len({tuple(each) for each in texts.values()}) == 4
    for name in ["a", None, "c d", "lora", "a", None]:
        model = of(adapters, name)
        assert [answer.text for answer in model.generate(PROMPTS, max_tokens=10)] == texts[name]
        np.testing.assert_allclose(model.score(PROMPTS, [" fade lamp", " red"]), scores[name], atol=1e-3)
        assert "".join(model.stream(PROMPTS[0], max_tokens=10)) == texts[name][0]
    assert (list(adapters), len(adapters)) == (["a", "lora", "c d"], 3)


def test_fingerprints(adapters, base, folders):
    prints = [of(adapters, name).fingerprint for name in (*adapters, None)]
    assert len(set(prints)) == 4
    assert adapters["a"].fingerprint == load_model(base, adapter=folders["a"]).fingerprint


@pytest.mark.parametrize("settings", [{}, {"stop": ("e",)}, {"temperature": 1.5, "seed": 4}])
def test_mixed_batches(adapters, settings):
    names = [*adapters, None]
    prompts = [prompt for prompt in PROMPTS for _ in names]
    asked = names * len(PROMPTS)
    mixed = adapters.generate_mixed(prompts, asked, max_tokens=10, **settings)
    alone = [
        of(adapters, name).generate(prompt, max_tokens=10, **settings)
        for prompt, name in zip(prompts, asked, strict=True)
    ]
    assert [answer.text for answer in mixed] == [answer.text for answer in alone]
    assert [answer.usage.completion_tokens for answer in mixed] == [answer.usage.completion_tokens for answer in alone]
    assert adapters.generate_mixed([], []) == []


def test_threads_that_want_different_adapters(adapters, expected):
    texts, _ = expected
    jobs = [(name, place) for name in (*adapters, None) for place in range(len(PROMPTS))] * 3
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda job: of(adapters, job[0]).generate(PROMPTS[job[1]], max_tokens=10), jobs))
    assert [answer.text for answer in answers] == [texts[name][place] for name, place in jobs]


def test_adapters_that_cannot_be_mixed_take_turns(base, folders, tmp_path, expected):
    dora = save_random_adapter(base, tmp_path / "dora", 9, use_dora=True)
    adapters = AdapterSet(base, {"a": folders["a"], "dora": dora})
    answers = adapters.generate_mixed(PROMPTS[:2] * 2, ["a", "dora", "dora", "a"], max_tokens=10)
    alone = load_model(base, adapter=dora)
    assert answers[0].text == expected[0]["a"][0]
    assert answers[1].text == alone.generate(PROMPTS[1], max_tokens=10).text
    assert answers[2].text == alone.generate(PROMPTS[0], max_tokens=10).text


def test_what_finetune_wrote(tmp_path):
    rows = [Example(f"dim the {word}", f"fade {word}") for word in ("lamp", "fan", "vent", "light")] * 4
    settings = {"epochs": 1, "seed": 0, "template": None}
    tuned = finetune("tiny", rows, method="lora", output_dir=tmp_path / "lora", **settings)
    adapters = AdapterSet("tiny", {"dim": tmp_path / "lora"})
    prompt = "Input: dim the fan\nOutput:"
    assert adapters["dim"].generate(prompt, max_tokens=4).text == tuned.model.generate(prompt, max_tokens=4).text
    assert adapters["dim"].fingerprint == tuned.model.fingerprint
    (tmp_path / "other").mkdir()
    shutil.copytree(tmp_path / "lora", tmp_path / "other", dirs_exist_ok=True)
    weights = next((tmp_path / "other").rglob("adapter_model.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-9])
    with pytest.raises(IntegrityError):
        AdapterSet("tiny", {"dim": tmp_path / "other"})


def test_bad_sets(base, folders, adapters, tmp_path):
    with pytest.raises(InvalidInputError, match="holds no adapter"):
        AdapterSet(base, {"x": tmp_path})
    other = save_random_llama(tmp_path / "wide", hidden_size=32)
    with pytest.raises(IntegrityError, match="belongs to another base"):
        AdapterSet(other, {"x": folders["a"]})
    with pytest.raises(InvalidInputError, match="does not take adapters"):
        AdapterSet(f"hf:{folders['a']}", {})
    with pytest.raises(KeyError, match="no adapter is called 'b'"):
        adapters["b"]
    with pytest.raises(InvalidInputError, match="no adapter is called 'b'"):
        adapters.generate_mixed(["x"], ["b"])
    with pytest.raises(InvalidInputError, match="`stop` must be"):
        adapters.generate_mixed(["x"], ["a"], stop="ab")
    with pytest.raises(InvalidInputError, match="as many as the prompts"):
        adapters.generate_mixed(["x", "y"], ["a"])
    soft = tmp_path / "soft"
    Path(soft).mkdir()
    from peft import PromptTuningConfig, get_peft_model

    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    with quiet_transformers():
        get_peft_model(load_model(base).module, config).save_pretrained(soft)
    with pytest.raises(UnsupportedError, match="soft prompt"):
        AdapterSet(base, {"x": str(soft)})
