"""What runs on a CUDA device, run on a pretended one: nothing mixes devices, and the numbers are those of the CPU."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from pretended_cuda import OnCard, pretended_cuda
from random_llama import save_random_llama

from ragkit import load_embedder, load_model
from ragkit._progress import quiet_transformers
from ragkit.errors import UnsupportedError
from ragkit.models import AdapterSet
from ragkit.models._devices import default_device, dtype_for, trains_on_gpu
from ragkit.models._local import LocalModel
from ragkit.models._sampling import Sampling
from ragkit.models._streaming import Draw, Listener
from ragkit.records import Prompt

SHARED = "Input: dim the lamp\nOutput: fade lamp\n\n" * 8
PROMPTS = [
    Prompt(SHARED, "Input: dim the fan\nOutput:"),
    Prompt(SHARED, "Input: dim the red lamp\nOutput:"),
    "Input: red\nOutput:",
    f"{SHARED}Input: red\nOutput:",
]
CHOICES = [" fade", " fade lamp", "", " red blue red"]


@pytest.fixture(scope="module")
def llama(tmp_path_factory) -> str:
    return save_random_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def adapters(llama, tmp_path_factory) -> dict[str, str]:
    """Two LoRAs and a soft prompt, their weights drawn."""
    from peft import LoraConfig, PromptTuningConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    kinds = {
        "one": LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM"),
        "two": LoraConfig(r=8, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM"),
        "soft": PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
    }
    folders = {}
    for seed, (name, kind) in enumerate(kinds.items()):
        torch.manual_seed(seed)
        folders[name] = str(tmp_path_factory.mktemp(name))
        base = AutoModelForCausalLM.from_pretrained(llama.removeprefix("hf:"))
        with quiet_transformers():
            get_peft_model(base, kind).save_pretrained(folders[name])
    return folders


@pytest.fixture
def card(monkeypatch) -> Iterator[None]:
    with pretended_cuda(monkeypatch, bfloat16=False):
        yield


def answers_of(model: LocalModel):
    heard: list[str] = []
    listener = Listener(hear=lambda piece, tokens: heard.append(f"{piece}{tokens}"), top_logprobs=2)
    schema = {"type": "object", "properties": {"a": {"enum": ["x", "yy"]}}, "required": ["a"]}
    return [
        *(answer.text for answer in model.generate(PROMPTS, max_tokens=4)),
        *(answer.text for answer in model.generate(PROMPTS, max_tokens=4, temperature=2.0, seed=5)),
        *(answer.text for answer in model.generate(PROMPTS, max_tokens=4, stop=["\n\n", "e"])),
        *(answer.text for answer in model.generate(PROMPTS, max_tokens=4, choices=[" fade fan", " fade"])),
        *(answer.text for answer in model.generate(PROMPTS[:2], max_tokens=16, schema=schema)),
        *model.stream(PROMPTS[0], max_tokens=4),
        model.complete_rows([model.encode_prompt(PROMPTS[2])], Sampling(max_tokens=3), listeners=[listener])[0].text,
        len(heard),
    ]


class TestThePretendedCard:
    """It refuses what a card refuses."""

    @pytest.fixture(autouse=True)
    def _on(self, card):
        return card

    def test_numbers_are_there_and_come_back(self):
        rows = torch.arange(6).reshape(2, 3).to("cuda")
        assert (rows.device.type, (rows * 2)[1].tolist(), rows.sum().item()) == ("cuda", [6, 8, 10], 15)
        assert rows.cpu().numpy().tolist() == [[0, 1, 2], [3, 4, 5]]
        assert isinstance(torch.tensor([1], device="cuda"), OnCard)

    @pytest.mark.parametrize(
        "mixed",
        [
            lambda card, cpu: card + cpu,
            lambda card, cpu: torch.cat([card, cpu]),
            lambda card, cpu: torch.nn.functional.embedding(cpu.long(), card),
            lambda card, cpu: card.gather(1, cpu.long()),
            lambda card, cpu: cpu[card.long()],
            lambda card, _: np.asarray(card),
            lambda card, _: card.numpy(),
            lambda card, _: torch.empty_like(card).exponential_(generator=torch.Generator()),
            lambda _, cpu: torch.empty_like(cpu).exponential_(generator=torch.Generator("cuda")),
        ],
    )
    def test_devices_do_not_mix(self, mixed):
        with pytest.raises((RuntimeError, TypeError)):
            mixed(torch.ones(2, 2, device="cuda"), torch.ones(2, 2))


def test_where_models_run(card, monkeypatch):
    assert (default_device(), dtype_for("auto", torch.float32), trains_on_gpu()) == ("cuda", torch.float32, True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert dtype_for("auto", torch.float32) == torch.float32  # an imitated bfloat16 is slow
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    assert dtype_for("auto", torch.float32) == torch.bfloat16


def test_several_cards_need_a_launcher(monkeypatch, tmp_path):
    from transformers import TrainingArguments

    from ragkit.finetuning._settings import Settings
    from ragkit.finetuning._trainers import arguments_of
    from ragkit.finetuning._training_loop import trainer_arguments

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for arguments in (
        lambda: arguments_of(Settings(folder=tmp_path), 1e-3, held_out=False),
        lambda: trainer_arguments(
            TrainingArguments, tmp_path, epochs=1, learning_rate=1e-3, batch_size=1, seed=0, special={}, given={}
        ),
    ):
        with pytest.raises(UnsupportedError, match=r"2 GPUs are visible to one process.*accelerate launch"):
            arguments()


@pytest.mark.parametrize("name", ["tiny", "llama"])
def test_a_model_on_a_card_answers_as_on_the_cpu(name, llama, monkeypatch):
    spec = llama if name == "llama" else "tiny"
    plain = load_model(spec)
    expected, scores = answers_of(plain), plain.score(PROMPTS, CHOICES)
    with pretended_cuda(monkeypatch, bfloat16=False):
        model = load_model(spec)
        assert model.module.device.type == "cuda"
        assert answers_of(model) == expected
        np.testing.assert_allclose(model.score(PROMPTS, CHOICES), scores, atol=1e-4)


def test_in_bfloat16(llama, monkeypatch):
    plain = load_model(llama)
    with pretended_cuda(monkeypatch, bfloat16=True):
        model = load_model(llama)
        assert model.module.dtype == torch.bfloat16
        assert model.fingerprint == plain.fingerprint.replace("float32", "bfloat16")
        assert len(model.generate(PROMPTS, max_tokens=4, temperature=1.0)) == len(PROMPTS)
        scores = model.score(PROMPTS, CHOICES)
    assert scores.dtype == np.float64
    np.testing.assert_allclose(scores, plain.score(PROMPTS, CHOICES), rtol=0.1, atol=0.5)


def test_adapters_and_soft_prompts(llama, adapters, monkeypatch):
    loras = {name: adapters[name] for name in ("one", "two")}

    def answers():
        models = AdapterSet(llama, loras)
        mixed = models.generate_mixed(PROMPTS, ["one", None, "two", "one"], max_tokens=4)
        soft = load_model(llama, adapter=adapters["soft"])
        texts = [answer.text for answer in (*mixed, *soft.generate(PROMPTS, max_tokens=4))]
        return texts, soft.score(PROMPTS, CHOICES), models["two"].score(PROMPTS, CHOICES)

    texts, *scores = answers()
    with pretended_cuda(monkeypatch, bfloat16=False):
        found, *other = answers()
    assert found == texts
    np.testing.assert_allclose(other, scores, atol=1e-4)


def test_mixed_adapters_over_a_base_in_bfloat16(llama, adapters, monkeypatch):
    rows = ["Input: red\nOutput:"] * 3
    with pretended_cuda(monkeypatch, bfloat16=True):
        models = AdapterSet(llama, {name: adapters[name] for name in ("one", "two")})
        base = models.base
        ids, mask = base.network.padded([base.encode_prompt(row) for row in rows], left=True)
        with torch.no_grad():
            with models._mixed_rows.on(["ragkit0", None, "ragkit1"]):
                mixed = base.network.forward(ids, mask).logits[:, -1]
            for row, model in enumerate([models["one"], base, models["two"]]):
                with model.computing():
                    alone = model.network.forward(ids[:1], mask[:1]).logits[0, -1]
                assert torch.allclose(mixed[row].float().cpu(), alone.float().cpu(), atol=0.02), row


def test_a_temperature_whose_inverse_is_no_number(card):
    scores = torch.tensor([[1.0, 3.0, 2.0]], device="cuda")
    for temperature in (1e-5, 1e-40, 1e-300):
        assert Draw(temperature, [0], "cuda")(None, scores).argmax(-1).tolist() == [1]


def test_an_embedder(monkeypatch):
    texts = ["dim the lamp", "", "play a song " * 30]
    expected = load_embedder("minilm").embed_documents(texts)
    with pretended_cuda(monkeypatch, bfloat16=True):
        embedder = load_embedder("minilm", dtype="bfloat16")
        vectors = embedder.embed_documents(texts)
        assert embedder.model.device.type == "cuda"
        assert [len(rows) for rows in embedder.embed_tokens(texts)] == [3, 0, 90]
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, expected, atol=2e-2)


@pytest.mark.parametrize(("rank", "device"), [(None, "cuda"), ("1", "cuda:1"), ("x", "cuda")])
def test_a_launched_process_keeps_to_its_card(monkeypatch, rank, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("LOCAL_RANK", rank)
    assert default_device() == device
