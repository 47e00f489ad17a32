"""Adapters that PEFT stored: with a tokenizer and tokens of their own, and on bases that are not theirs."""

import json
import shutil

import peft
import pytest
import torch
from random_llama import save_random_llama
from transformers import AutoModelForCausalLM, AutoTokenizer

from ragkit import Example, finetune, load_model
from ragkit.errors import IntegrityError, UnsupportedError
from ragkit.finetuning._adapters import check_base
from ragkit.models import AdapterSet
from ragkit.records import Chat, Message

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # of PEFT
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings:UserWarning"),
    pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`:UserWarning"),
]
CHAT_TEMPLATE = (
    "{% for message in messages %}<turn>{{ message['role'] }}: {{ message['content'] }}</turn>{% endfor %}"
    "{% if add_generation_prompt %}<turn>assistant: {% endif %}"
)
LORA = {"r": 4, "target_modules": "all-linear", "init_lora_weights": False, "task_type": "CAUSAL_LM"}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_random_llama(tmp_path_factory.mktemp("base")).removeprefix("hf:")


@pytest.fixture(scope="module", params=[0, 6], ids=["exact", "padded"])
def grown(request, base, tmp_path_factory):
    """Folder of an adapter with two tokens more than its base, and the model itself; embeddings may have more rows."""
    folder = tmp_path_factory.mktemp("adapter")
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_tokens(["<turn>", "</turn>"], special_tokens=True)
    tokenizer.chat_template = CHAT_TEMPLATE
    model = AutoModelForCausalLM.from_pretrained(base)
    torch.manual_seed(0)
    model.resize_token_embeddings(len(tokenizer) + request.param)
    model = peft.get_peft_model(model, peft.LoraConfig(**LORA)).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder), model, tokenizer


def logits(module, ids):
    with torch.inference_mode():
        return module(ids).logits


@pytest.mark.parametrize("by", ["its own folder", "base and adapter"])
def test_an_adapter_brings_its_tokenizer_and_its_tokens(base, grown, by):
    folder, model, tokenizer = grown
    loaded = load_model(f"hf:{folder}") if by == "its own folder" else load_model(f"hf:{base}", adapter=folder)
    assert loaded.capabilities.chat
    ids = loaded.encode_prompt(Chat((Message("user", "dim the lamp"),)))
    assert tokenizer.decode(ids) == "<turn>user: dim the lamp</turn><turn>assistant: "
    assert ids[0] == tokenizer.convert_tokens_to_ids("<turn>") >= len(AutoTokenizer.from_pretrained(base))
    assert torch.allclose(logits(loaded.module, torch.tensor([ids])), logits(model, torch.tensor([ids])), atol=1e-5)


def own_tokens(folder, base, settings, **stored):
    """Store an adapter with two tokens more than its base; give the model and ids of these tokens among others."""
    tokenizer, model = AutoTokenizer.from_pretrained(base), AutoModelForCausalLM.from_pretrained(base)
    first = len(tokenizer)
    tokenizer.add_tokens(["<turn>", "</turn>"], special_tokens=True)
    torch.manual_seed(0)
    model.resize_token_embeddings(len(tokenizer))
    if settings.get("trainable_token_indices"):
        settings = {**settings, "trainable_token_indices": [first, first + 1]}
    adapted = peft.get_peft_model(model, peft.LoraConfig(**{**LORA, **settings})).eval()
    adapted.save_pretrained(folder, **stored)
    tokenizer.save_pretrained(folder)
    return adapted, torch.tensor([[first, 5, 6, first + 1]])


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(
    "settings",
    [
        {"modules_to_save": ["embed_tokens", "lm_head"]},
        {"trainable_token_indices": True},
        {"target_modules": ["embed_tokens", "q_proj"]},
    ],
)
def test_tokens_of_an_adapter_are_those_that_were_trained(tmp_path, settings, tied):
    base = save_random_llama(tmp_path / "base", tie_word_embeddings=tied).removeprefix("hf:")
    model, ids = own_tokens(tmp_path / "adapter", base, settings)
    if "target_modules" in settings and not tied:  # PEFT stores the input embeddings only
        with pytest.raises(IntegrityError, match="output layer"):
            load_model(f"hf:{tmp_path / 'adapter'}")
        return
    loaded = load_model(f"hf:{tmp_path / 'adapter'}")
    assert torch.allclose(logits(loaded.module, ids), logits(model, ids), atol=1e-5)


def test_tokens_whose_embeddings_were_not_stored_are_refused(base, tmp_path):
    own_tokens(tmp_path, base, {}, save_embedding_layers=False)
    with pytest.raises(IntegrityError, match="2 tokens more"):
        load_model(f"hf:{tmp_path}")


@pytest.mark.parametrize("method", ["lora", "full"])
def test_training_on_top_keeps_them(grown, tmp_path, method):
    folder, model, tokenizer = grown
    rows = [Example("dim the lamp", "fade lamp"), Example("open the door", "vent door")]
    tuned = finetune(f"hf:{folder}", rows, method=method, epochs=1, learning_rate=1e-9, output_dir=tmp_path / "run")
    again = load_model(f"hf:{tmp_path / 'run'}")
    assert again.tokenizer.chat_template == CHAT_TEMPLATE
    assert tuned.manifest.form == "model"
    ids = again.encode_prompt(Chat((Message("user", "dim the lamp"),)))
    assert ids == tokenizer.apply_chat_template(
        [{"role": "user", "content": "dim the lamp"}], add_generation_prompt=True, return_dict=False
    )
    # Next to nothing was learned, so the model still computes what the adapter did.
    assert torch.allclose(logits(again.module, torch.tensor([ids])), logits(model, torch.tensor([ids])), atol=1e-3)


def test_an_adapter_with_its_own_embeddings_cannot_share_a_base(base, grown):
    with pytest.raises(UnsupportedError, match="token embeddings of its own"):
        AdapterSet(f"hf:{base}", {"grown": grown[0]})


def test_an_adapter_of_another_base_of_the_same_shape_is_refused(base, tmp_path):
    other = save_random_llama(tmp_path / "other", seed=7)
    adapter = str(tmp_path / "adapter")
    peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), peft.LoraConfig(**LORA)).save_pretrained(adapter)
    with pytest.raises(IntegrityError, match=r"was trained on .*load it on its own base"):
        load_model(other, adapter=adapter)
    with pytest.raises(IntegrityError, match="was trained on"):
        AdapterSet(other, {"a": adapter})
    shutil.copytree(base, tmp_path / "copy")  # the same files in another place are the same base
    assert load_model(f"hf:{tmp_path / 'copy'}", adapter=adapter).generate("dim", max_tokens=1).text is not None
    settings = json.loads((tmp_path / "adapter/adapter_config.json").read_text())
    for recorded, source, is_refused in (
        ("org/one", "org/other", True),
        ("org/one", "org/one", False),
        ("/no/such/folder", base, False),
        ("org/one", base, False),  # the hub's name for a folder is not known
    ):
        (tmp_path / "adapter/adapter_config.json").write_text(
            json.dumps(settings | {"base_model_name_or_path": recorded})
        )
        if is_refused:
            with pytest.raises(IntegrityError, match="was trained on org/one, not on org/other"):
                check_base(adapter, source)
        else:
            check_base(adapter, source)


def test_the_adapter_of_a_run_is_refused_on_another_base(base, tmp_path):
    rows = [Example("dim the lamp", "fade lamp")]
    finetune(f"hf:{base}", rows, epochs=1, output_dir=tmp_path / "run")
    other = save_random_llama(tmp_path / "other", seed=7)
    with pytest.raises(IntegrityError, match="model belongs to another base: it was trained on"):
        load_model(other, adapter=str(tmp_path / "run/model"))
