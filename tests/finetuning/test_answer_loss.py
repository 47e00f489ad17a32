"""The loss of answers, its shared beginnings and its precision, beside the plain computation row by row."""

import copy

import peft
import pytest
import torch
import transformers
from random_llama import save_random_llama
from transformers import AutoModelForCausalLM

from ragkit import Example, Template, finetune, load_model
from ragkit.finetuning import _answer_loss as answer_loss
from ragkit.finetuning._answer_loss import add_answer_loss, can_share, shared_tokens
from ragkit.finetuning._batching import Collator, LengthSampler
from ragkit.finetuning._cpu_layers import (
    AdaptedLinear,
    HalfLinear,
    multiply_in_bfloat16,
    save_activations,
    shared_heads,
)

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # of PEFT
LINEAR = {"target_modules": "all-linear", "task_type": "CAUSAL_LM"}
BEGINNING = list(range(10, 50))
ROWS = [  # ids, the number of tokens that are learned, and their weights
    ([*BEGINNING, 60, 61, 62, 63], 2, [1.0, 1.0]),
    ([*BEGINNING, 70, 71, 72, 73, 74, 75, 76], 3, [0.5, 0.5, 0.5]),
    ([*BEGINNING, 80, 81], 1, [2.0]),
]
WEIGHTED = [
    {"input_ids": ids, "labels": [-100] * (len(ids) - n) + ids[-n:], "weights": [1.0] * (len(ids) - n) + weights}
    for ids, n, weights in ROWS
]


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return save_random_llama(tmp_path_factory.mktemp("llama")).removeprefix("hf:")


def trained(folder, method):
    """A model in double precision that is ready to be trained, whatever is trained of it drawn at random."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
    torch.manual_seed(1)
    if method == "lora":
        config = peft.LoraConfig(r=4, init_lora_weights=False, **LINEAR)
        model = peft.get_peft_model(model, config)
    if method == "prompt-tuning":
        model = peft.get_peft_model(model, peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5))
    return model.double().train()


def gradients(model):
    return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


def plain_losses(model):
    """Each row alone, without padding; the losses of its learned tokens."""
    losses = []
    for ids, n, _ in ROWS:
        logits = model(input_ids=torch.tensor([ids])).logits[0, -n - 1 : -1]
        losses.append(torch.nn.functional.cross_entropy(logits, torch.tensor(ids[-n:]), reduction="none"))
    return torch.cat(losses)


@pytest.mark.parametrize("at_once", [1024, 20], ids=["one part", "parts"])
@pytest.mark.parametrize("own", [9, 2**31], ids=["shared", "whole"])
@pytest.mark.parametrize("method", ["lora", "full", "prompt-tuning"])
def test_losses_and_gradients_are_those_of_the_plain_computation(llama, monkeypatch, method, own, at_once):
    monkeypatch.setattr(answer_loss, "_MOST_TOKENS", at_once)
    plain, model = trained(llama, method), trained(llama, method)
    add_answer_loss(model)
    weights = torch.tensor([weight for *_, row in ROWS for weight in row])
    expected = plain_losses(plain)
    (expected * weights).sum().backward()
    batch = Collator(0)(WEIGHTED)
    found = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=batch["labels"], own=own)
    assert torch.equal(batch["weights"][:, 1:][batch["labels"][:, 1:] != -100], weights)
    (found * weights).sum().backward()
    assert torch.allclose(found, expected, rtol=1e-9)
    assert gradients(model).keys() == gradients(plain).keys()
    for name, gradient in gradients(plain).items():
        assert gradient.norm() > 0
        # The norms of Llama compute in single precision, whatever the weights are.
        assert (gradients(model)[name] - gradient).norm() < 1e-6 * gradient.norm(), name


def test_logits_are_capped_as_the_model_caps_them(tmp_path):
    sizes = {"head_dim": 16, "final_logit_softcapping": 3.0, "sliding_window": 4096}
    folder = save_random_llama(tmp_path, kind="Gemma2", **sizes).removeprefix("hf:")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager")
    batch = Collator(0)(WEIGHTED)
    named = {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}
    expected = plain_losses(model)
    add_answer_loss(model)
    assert torch.allclose(model(**named, own=2**31), expected, rtol=1e-9)
    assert not can_share(model)  # its caches hold a window


def batch_of(*rows, learned):
    labels = [[-100] * (len(row) - learned) + row[-learned:] for row in rows]
    made = Collator(0)([{"input_ids": row, "labels": own} for row, own in zip(rows, labels, strict=True)])
    return made["input_ids"], made["attention_mask"], made["labels"]


@pytest.mark.parametrize(
    ("rows", "learned", "expected"),
    [
        ([[*range(100), 1, 5], [*range(100), 2, 5]], 1, 100),
        ([[*range(100), 5], [*range(100), 6]], 1, 99),  # the token before a learned one is computed in every row
        ([[*range(100)], [*range(120)]], 30, 69),  # a learned token is not shared
        ([[*range(100)], [*range(80)]], 1, 78),  # the shorter row ends
        ([[*range(60), 1], [*range(60), 2]], 1, 0),  # 59 tokens are too few to save
        ([[*range(60), 1], [*range(60), 2], [*range(60), 3]], 1, 59),  # twice that is enough
        ([[*range(100)]], 1, 0),
    ],
)
def test_shared_tokens_are_equal_and_not_learned(rows, learned, expected):
    assert shared_tokens(*batch_of(*rows, learned=learned)) == expected


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (peft.LoraConfig(**LINEAR), True),
        (peft.LoraConfig(**LINEAR, lora_dropout=0.1), False),
        (peft.LoraConfig(**LINEAR, alora_invocation_tokens=[5]), False),
        (peft.PrefixTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM"), False),
    ],
)
def test_nothing_is_shared_that_differs_from_row_to_row(llama, config, expected):
    model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(llama), config)
    assert can_share(model) is expected


def test_a_beginning_is_computed_once_in_training(llama, tmp_path, monkeypatch):
    """The tokens that go through the embedding: the instruction once a batch, the rest of the rows, padding."""
    from ragkit.finetuning import _trainers as trainers

    seen = []

    def counted(model):
        add_answer_loss(model)
        model.get_input_embeddings().register_forward_hook(lambda _, given, __: seen.append(given[0].numel()))

    monkeypatch.setattr(trainers, "add_answer_loss", counted)
    template = Template(instruction="Turn every order for the house into the short form that the house knows.")
    rows = [Example("dim the lamp", "fade lamp"), Example("open the door", "vent door")]
    base = load_model(f"hf:{llama}")
    prompts = [base.encode_prompt(template.prompt([], row.input)) for row in rows]
    shared = next(n for n, (one, other) in enumerate(zip(*prompts, strict=False)) if one != other)
    answers = [[*base.encode_text(template.render_answer(row.output)), base.tokenizer.eos_token_id] for row in rows]
    width = max(len(prompt) + len(answer) for prompt, answer in zip(prompts, answers, strict=True))
    monkeypatch.setitem(shared_tokens.__globals__["_LEAST_SAVED"], "cpu", 16)
    tuned = finetune(base, rows, template=template, epochs=1, output_dir=tmp_path / "out")
    assert shared >= 16
    assert seen == [shared, 2 * (width - shared)]
    plain = AutoModelForCausalLM.from_pretrained(llama, dtype=torch.float32)
    total = 0.0
    for prompt, answer in zip(prompts, answers, strict=True):
        logits = plain(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
        total += torch.nn.functional.cross_entropy(logits, torch.tensor(answer), reduction="sum").item()
    assert tuned.manifest.loss == pytest.approx(total / sum(map(len, answers)), rel=1e-4)


def test_padding_is_small_and_every_row_is_drawn_once():
    lengths = [5 * (row % 40) + 3 for row in range(330)]
    sampler = LengthSampler(lengths, batch_size=16, seed=3)
    first = list(sampler)
    assert sorted(first) == list(range(330))
    assert list(LengthSampler(lengths, batch_size=16, seed=3)) == first
    sampler.set_epoch(1)
    assert list(sampler) != first
    assert list(LengthSampler(lengths, batch_size=16, seed=4)) != first

    def padding(order):
        batches = [[lengths[row] for row in order[start : start + 16]] for start in range(0, len(order), 16)]
        return sum(max(batch) * len(batch) - sum(batch) for batch in batches)

    assert padding(first) < padding(range(330)) / 2
    longest = [max(lengths[row] for row in first[start : start + 16]) for start in range(0, 320, 16)]
    assert longest != sorted(longest)
    assert longest != sorted(longest, reverse=True)


@pytest.fixture
def wide(tmp_path):
    sizes = {"hidden_size": 256, "intermediate_size": 512, "initializer_range": 0.05}
    folder = save_random_llama(tmp_path, **sizes).removeprefix("hf:")
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def test_a_half_product_rounds_its_factors_and_its_result(wide):
    layer = copy.deepcopy(wide.model.layers[0].mlp.up_proj)
    states = torch.randn(7, 256, generator=torch.Generator().manual_seed(0))
    factors = states.bfloat16().double(), layer.weight.bfloat16().double()
    expected = (factors[0] @ factors[1].T).bfloat16().float()
    multiply_in_bfloat16(wide, shrink=False)
    found = wide.model.layers[0].mlp.up_proj(states)
    assert found.dtype == torch.float32
    assert torch.allclose(found, expected, rtol=2**-7)
    assert not torch.equal(found, layer(states))


def test_small_layers_and_the_head_stay_in_single_precision(wide):
    model = peft.get_peft_model(wide, peft.LoraConfig(r=4, **LINEAR))
    multiply_in_bfloat16(model, shrink=True)
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, torch.nn.Linear)}
    half = {name.split(".")[-2] for name, layer in layers.items() if type(layer) is HalfLinear}
    assert half == {"q_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}  # keys and values have 128 columns
    assert {layer.weight.dtype for layer in layers.values() if type(layer) is HalfLinear} == {torch.bfloat16}
    assert {layer.weight.dtype for layer in layers.values() if type(layer) is not HalfLinear} == {torch.float32}


def test_a_small_update_of_an_adapter_is_not_lost_in_rounding(wide):
    """The oracle is the change of the loss in double precision; under autocast most of it would be lost."""
    model = peft.get_peft_model(wide, peft.LoraConfig(r=4, **LINEAR))
    ids = torch.arange(5, 45)[None]
    half, exact = copy.deepcopy(model), copy.deepcopy(model).double()
    multiply_in_bfloat16(half, shrink=True)

    def loss(module):
        with torch.no_grad():
            return float(module(input_ids=ids, labels=ids).loss)

    before = [loss(each) for each in (model, half, exact)]
    model(input_ids=ids, labels=ids).loss.backward()
    for each in (model, half, exact):
        for weight, update in zip(each.parameters(), model.parameters(), strict=True):
            if update.grad is not None:
                weight.data -= 2e-4 * update.grad.sign().to(weight.dtype)
    single, found, expected = (loss(each) - old for each, old in zip((model, half, exact), before, strict=True))
    assert expected < -0.01
    assert single == pytest.approx(expected, rel=0.01)
    assert found == pytest.approx(expected, rel=0.1)


def loss_and_gradients(model, ids):
    model.zero_grad()
    loss = model(input_ids=ids, labels=ids, attention_mask=torch.ones_like(ids)).loss
    loss.backward()
    return float(loss.detach()), [weight.grad for weight in model.parameters() if weight.grad is not None]


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_saving_activations_changes_neither_loss_nor_gradients(wide, family):
    if family == "gemma3":
        config = transformers.Gemma3TextConfig(
            vocab_size=300, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, head_dim=16,
        )  # fmt: skip
        torch.manual_seed(0)
        wide = transformers.Gemma3ForCausalLM(config)
    plain = peft.get_peft_model(wide, peft.LoraConfig(r=4, lora_alpha=12, **LINEAR))
    for name, weight in plain.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.05, generator=torch.Generator().manual_seed(1))
    frugal, ids = copy.deepcopy(plain), torch.arange(5, 45).view(2, 20)
    save_activations(frugal)
    layers = [layer for layer in frugal.modules() if type(layer) is AdaptedLinear]
    assert len(layers) == 14
    expected = loss_and_gradients(plain, ids)
    with shared_heads():
        found = loss_and_gradients(frugal, ids)
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    assert len(found[1]) == 28
    for one, other in zip(found[1], expected[1], strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-5)


def test_half_products_of_an_adapter_have_the_gradients_of_single_precision(wide):
    single = peft.get_peft_model(wide, peft.LoraConfig(r=4, **LINEAR))
    half, ids = copy.deepcopy(single), torch.arange(5, 45).view(2, 20)
    multiply_in_bfloat16(half, shrink=True)
    save_activations(half)
    expected, found = loss_and_gradients(single, ids)[1], loss_and_gradients(half, ids)[1]
    for one, other in zip(found, expected, strict=True):
        assert torch.linalg.vector_norm(one - other) <= 0.03 * torch.linalg.vector_norm(other)


def test_layers_that_compute_more_than_their_parts_suggest_stay_as_they_are(wide):
    class Scaled(type(wide.model.layers[0].mlp)):
        def forward(self, states):
            return 2 * super().forward(states)

    layer = wide.model.layers[0].mlp
    layer.__class__ = Scaled
    states = torch.randn(3, 256, generator=torch.Generator().manual_seed(0))
    expected = layer(states)
    save_activations(peft.get_peft_model(wide, peft.LoraConfig(r=4, **LINEAR)))
    assert torch.allclose(layer(states), expected, rtol=1e-5, atol=1e-6)
