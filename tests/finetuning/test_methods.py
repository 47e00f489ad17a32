import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM

from ragkit import Example, Template, finetune, load_model
from ragkit.errors import InvalidInputError, UnsupportedError
from ragkit.finetuning._flops import training_flops
from ragkit.finetuning._methods import freeze_all_but_last
from ragkit.tiny import WEIGHTS

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # of PEFT, in the oracles
WORDS = (("dim", "fade"), ("light", "glow"), ("open", "vent"))
ROWS = [
    Example(f"{word} the {thing}", f"{symbol} {thing}") for word, symbol in WORDS for thing in ("lamp", "fan", "song")
]
ASKED = [Template().prompt([], f"{word} the lamp") for word, _ in WORDS]


def answers(model, prompts=ASKED):
    return [Template().read_answer(c.text) for c in model.generate(prompts, max_tokens=12, stop=("\n\n",))]


def test_last_layers_train_only_the_last_blocks(tmp_path):
    tuned = finetune("tiny", ROWS, method="last-layers", layers=2, epochs=40, learning_rate=5e-3, output_dir=tmp_path)
    before, after = load_file(WEIGHTS / "model.safetensors"), load_file(tmp_path / "model/model.safetensors")
    changed = {name.split(".")[2] for name in after if not torch.equal(before[name], after[name])}
    assert changed == {"4", "5", "weight"}  # the last two blocks and the norm; the head is the input embedding
    assert torch.equal(before["model.embed_tokens.weight"], after["model.embed_tokens.weight"])
    assert answers(load_model(f"hf:{tmp_path}")) == answers(tuned.model) == ["fade lamp", "glow lamp", "vent lamp"]
    assert tuned.manifest.form == "model"


def test_a_head_of_its_own_is_trained_too():
    from transformers import LlamaConfig, LlamaForCausalLM

    size = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2}
    module = LlamaForCausalLM(LlamaConfig(vocab_size=16, tie_word_embeddings=False, **size))
    freeze_all_but_last(module, 1)
    trained = {name for name, weight in module.named_parameters() if weight.requires_grad}
    assert {"lm_head.weight", "model.norm.weight", "model.layers.2.mlp.up_proj.weight"} <= trained
    assert not any("layers.1" in name or "embed" in name for name in trained)
    with pytest.raises(InvalidInputError, match="at most 3"):
        freeze_all_but_last(module, 4)


@pytest.fixture(scope="module")
def prompted(tmp_path_factory):
    return finetune("tiny", ROWS, method="prompt-tuning", epochs=30, output_dir=tmp_path_factory.mktemp("soft") / "run")


def test_a_soft_prompt_learns_and_leaves_the_base_alone(prompted):
    assert answers(prompted.model) == ["fade lamp", "glow lamp", "vent lamp"]
    assert answers(load_model(f"hf:{prompted.folder}")) == answers(prompted.model)
    stored = load_file(prompted.folder / "model/adapter_model.safetensors")
    assert {name: tuple(tensor.shape) for name, tensor in stored.items()} == {"prompt_embeddings": (16, 128)}
    assert prompted.manifest.base == "tiny"


def test_a_soft_prompt_scores_like_peft_without_padding(prompted):
    """The oracle is PEFT's own forward pass, one row at a time."""
    base = AutoModelForCausalLM.from_pretrained(WEIGHTS, dtype=torch.float32)
    oracle = peft.PeftModel.from_pretrained(base, prompted.folder / "model").eval()
    tiny, choices = load_model("tiny"), [" fade lamp", " glow"]
    expected = np.zeros((len(ASKED), len(choices)))
    for row, prompt in enumerate(ASKED):
        for column, choice in enumerate(choices):
            head, tail = tiny.encode_prompt(prompt), tiny.encode_text(choice)
            with torch.inference_mode():
                logits = oracle(input_ids=torch.tensor([head + tail])).logits[0, 16:].log_softmax(-1)
            places = range(len(head) - 1, len(head) + len(tail) - 1)
            expected[row, column] = sum(float(logits[at, token]) for at, token in zip(places, tail, strict=True))
    assert np.allclose(prompted.model.score(ASKED, choices), expected, atol=1e-4)


def test_neighbours_in_a_batch_do_not_change_a_soft_prompt(prompted):
    long = Template().prompt([], "please " * 200 + "dim the lamp")
    alone = prompted.model.score(ASKED[:1], [" fade lamp", " glow"])
    among = prompted.model.score([long, *ASKED], [" fade lamp", " glow"])[1:2]
    assert np.allclose(alone, among, atol=1e-4)
    # One row at a time and all at once, with the longest padding there is.
    single = [answers(prompted.model, [prompt])[0] for prompt in ASKED]
    assert answers(prompted.model, [long, *ASKED])[1:] == single
    # The same through the model itself, where padding stands on the left.
    model, rows = prompted.model, [prompted.model.encode_prompt(prompt) for prompt in (ASKED[0], long)]
    ids, mask = model.network.padded(rows, left=True)
    with torch.inference_mode():
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        batch = model.module(input_ids=ids, attention_mask=mask, position_ids=positions).logits[0, -1]
        one = model.module(input_ids=torch.tensor([rows[0]])).logits[0, -1]
    assert torch.allclose(batch, one, atol=1e-4)
    assert torch.isinf(one[-16:]).all()


def test_padding_in_training_does_not_change_the_loss_of_a_soft_prompt(prompted):
    """Training pads on the right, after the virtual tokens and the row, where nothing that counts can see it."""
    base = AutoModelForCausalLM.from_pretrained(WEIGHTS, dtype=torch.float32)
    trained = peft.PeftModel.from_pretrained(base, prompted.folder / "model").eval()
    row = load_model("tiny").encode_prompt(ASKED[0])
    padded = torch.tensor([row + [0] * 100])
    with torch.inference_mode():
        one = trained(input_ids=torch.tensor([row])).logits[0]
        wide = trained(input_ids=padded, attention_mask=(torch.arange(padded.shape[1]) < len(row))[None].long()).logits
    assert torch.allclose(one, wide[0, : len(one)], atol=1e-4)


def test_an_adapter_folder_of_peft_is_a_soft_prompt_too(prompted):
    bare = load_model("tiny", adapter=str(prompted.folder / "model"))
    assert answers(bare) == answers(prompted.model)
    with pytest.raises(UnsupportedError, match="without a soft prompt"):
        finetune(bare, ROWS, output_dir=prompted.folder / "more")


LABELLED = [
    Example(f"{word} {n}", label)
    for word, label in (("card", "bank"), ("cake", "food"), ("cat", "pet"))
    for n in range(5)
]


def test_an_encoder_takes_lora(tmp_path):
    frozen = finetune("minilm", LABELLED, method="classifier-head", output_dir=tmp_path / "head")
    tuned = finetune("minilm", LABELLED, method="lora", epochs=4, output_dir=tmp_path / "lora")
    assert [c.text for c in tuned.model.generate(["a cat sat", "pay by card"])] == ["pet", "bank"]
    again = load_model(f"hf:{tmp_path / 'lora'}")
    scores = tuned.model.score(["a cat sat"], ["pet", "bank"])
    assert np.array_equal(again.score(["a cat sat"], ["pet", "bank"]), scores)
    assert not np.allclose(scores, frozen.model.score(["a cat sat"], ["pet", "bank"]), atol=1e-3)
    assert sum(file.stat().st_size for file in (tmp_path / "lora").rglob("*.safetensors")) < 5_000_000
    assert tuned.manifest.form == "adapter"
    assert tuned.manifest.tokens > 0


def test_qlora_says_that_it_needs_a_gpu(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UnsupportedError, match="takes a CUDA GPU"):
        finetune("tiny", ROWS, method="qlora", output_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("method", "config", "message"),
    [
        ("lora", peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4), "takes an adapter's"),
        ("prompt-tuning", peft.LoraConfig(), "takes a PromptTuningConfig"),
        ("full", peft.LoraConfig(), "requires 'lora'"),
        ("lora", {"r": 8}, "must be a PeftConfig"),
    ],
)
def test_a_configuration_of_another_method_is_refused(tmp_path, method, config, message):
    with pytest.raises(InvalidInputError, match=message):
        finetune("tiny", ROWS, method=method, peft_config=config, output_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("method", ["full", "lora", "last-layers"])
def test_operations_are_those_that_torch_counts(method):
    module = AutoModelForCausalLM.from_pretrained(WEIGHTS, dtype=torch.float32, attn_implementation="eager")
    layers = None
    if method == "lora":
        module = peft.get_peft_model(module, peft.LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM"))
    if method == "last-layers":
        layers = 2
        freeze_all_but_last(module, layers)
    ids = torch.randint(3, 800, (2, 64))
    with FlopCounterMode(display=False) as counter:
        module(input_ids=ids, labels=ids).loss.backward()
    assert training_flops(module, [64, 64], layers=layers) == pytest.approx(counter.get_total_flops(), rel=0.1)
