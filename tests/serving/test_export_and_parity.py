"""A merged folder gives the same answers as the adapter in every program; `parity` compares two backends."""

import json
import shutil

import pytest
from command_line import run as ragkit
from random_llama import save_random_llama

from ragkit import Example, ScriptedModel, finetune, load_model
from ragkit.errors import DataFileError, EmptyPoolError, IntegrityError, InvalidInputError, ModelError, UnsupportedError
from ragkit.finetuning import export_merged
from ragkit.finetuning._exporting import vllm_command
from ragkit.records import Chat, Message
from ragkit_pipelines.parity import parity
from ragkit_pipelines.prompt_files import read_prompts

PROMPTS = ["Input: dim the lamp\nOutput:", "red", "one two three one two"]


def test_transformers_loads_the_merged_model(base, folders, adapters, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    made = export_merged(base, tmp_path / "out", adapter=folders["a"])
    module, tokenizer = (kind.from_pretrained(tmp_path / "out") for kind in (AutoModelForCausalLM, AutoTokenizer))
    for prompt in PROMPTS:
        ids = torch.tensor([adapters.base.encode_prompt(prompt)])
        written = module.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=10, do_sample=False)
        text = tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True)
        assert text == adapters["a"].generate(prompt, max_tokens=10).text
        assert text != adapters.base.generate(prompt, max_tokens=10).text
    assert parity(f"hf:{tmp_path / 'out'}", adapters["a"], PROMPTS, max_tokens=10).equal == len(PROMPTS)
    folder = base.removeprefix("hf:")
    assert made.serve_merged == f"vllm serve {tmp_path / 'out'}"
    assert made.serve_adapter == f"vllm serve {folder} --enable-lora --lora-modules a={folders['a']} --max-lora-rank 8"
    assert not list(tmp_path.glob(".*"))
    with pytest.raises(InvalidInputError, match="not an empty folder"):
        export_merged(base, tmp_path / "out")
    spaced = vllm_command("a b", {})
    assert spaced == "vllm serve 'a b'"


def test_folders_of_finetune(tmp_path):
    rows = [Example(f"dim the {word}", f"fade {word}") for word in ("lamp", "fan", "vent", "light")] * 4
    tuned = finetune("tiny", rows, method="lora", output_dir=tmp_path / "home", epochs=1)
    done = ragkit("export", "--model", f"hf:{tmp_path / 'home'}", "--merged", tmp_path / "merged")
    assert done.returncode == 0, done.stderr
    assert "--enable-lora --lora-modules home=" in done.stdout
    assert "--max-lora-rank 16" in done.stdout
    assert parity(tuned.model, f"hf:{tmp_path / 'merged'}", PROMPTS).first is None
    again = export_merged(f"hf:{tmp_path / 'merged'}", tmp_path / "copy")
    assert (again.serve_adapter, again.adapter) == (None, None)
    soft = finetune("tiny", rows, method="prompt-tuning", output_dir=tmp_path / "soft", epochs=1)
    with pytest.raises(UnsupportedError, match="soft prompt"):
        export_merged(f"hf:{soft.folder}", tmp_path / "no")
    weights = tmp_path / "home/model/adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    with pytest.raises(IntegrityError):
        export_merged(f"hf:{tmp_path / 'home'}", tmp_path / "no")
    assert not (tmp_path / "no").exists()
    assert not (tmp_path / ".no.partial").exists()


def test_the_dtype_of_the_base_and_its_chat_template_are_preserved(base, folders, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = tmp_path / "half"
    shutil.copytree(base.removeprefix("hf:"), source)
    AutoModelForCausalLM.from_pretrained(source, dtype=torch.bfloat16).save_pretrained(source)
    tokenizer = AutoTokenizer.from_pretrained(source)
    tokenizer.chat_template = "{% for turn in messages %}{{ turn.role }}: {{ turn.content }}\n{% endfor %}bot:"
    tokenizer.save_pretrained(source)
    adapter = shutil.copytree(folders["b"], tmp_path / "adapter")
    settings = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**settings, "base_model_name_or_path": str(source)}))
    export_merged(f"hf:{source}", tmp_path / "out", adapter=adapter)
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").dtype == torch.bfloat16
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template == tokenizer.chat_template


def test_models_that_cannot_be_exported(base, folders, tmp_path):
    with pytest.raises(InvalidInputError, match="only a local model"):
        export_merged("openai:gpt", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInputError, match="holds no model"):
        export_merged(f"hf:{tmp_path / 'empty'}", tmp_path / "out")
    other = save_random_llama(tmp_path / "wide", hidden_size=32)
    with pytest.raises(IntegrityError, match="another base"):
        export_merged(other, tmp_path / "out", adapter=folders["a"])
    assert not (tmp_path / "out").exists()


def test_the_first_difference(tiny):
    texts = [answer.text for answer in tiny.generate(PROMPTS, max_tokens=8)]
    longer = {prompt: text + " lamp" for prompt, text in zip(PROMPTS, texts, strict=True)}
    found = parity(ScriptedModel({**longer, PROMPTS[0]: texts[0]}), ScriptedModel(longer), PROMPTS)
    assert (found.equal, found.prompts, found.models) == (2, 3, ("scripted", "scripted"))
    first = found.first
    assert (first.index, first.prompt, first.texts) == (0, PROMPTS[0], (texts[0], longer[PROMPTS[0]]))
    assert (first.character, first.token) == (len(texts[0]), None)
    other = {prompt: " fade" + text for prompt, text in zip(PROMPTS, texts, strict=True)}
    differs = parity(tiny, ScriptedModel({**other, PROMPTS[0]: texts[0]}), PROMPTS, max_tokens=8).first
    ends = tiny.generate(PROMPTS[0], max_tokens=8).finish_reason
    assert differs.index == (0 if ends == "length" else 1)  # only the response of `tiny` may be truncated
    ids = [tiny.encode_text(text) for text in differs.texts]
    same = next((n for n, (a, b) in enumerate(zip(*ids, strict=False)) if a != b), min(map(len, ids)))
    assert differs.token == same
    assert differs.texts[0][: differs.character] == differs.texts[1][: differs.character]
    assert differs.prompt_tokens[0] == len(tiny.encode_prompt(differs.prompt))


def test_errors_and_finish_reasons_are_differences():
    fails = ScriptedModel({"a": "same"})
    found = parity(ScriptedModel({"a": "same", "b": "x"}), fails, ["a", "b"])
    assert (found.equal, found.first.index, found.first.finish_reasons) == (1, 1, ("stop", "error"))
    assert "no answer" in found.first.texts[1]
    with pytest.raises(ModelError):
        parity(fails, fails, ["b"])
    with pytest.raises(EmptyPoolError):
        parity(fails, fails, [])
    long = ScriptedModel(["12345678"]), ScriptedModel(["1234"])
    assert parity(*long, ["x"], max_tokens=1).first.finish_reasons == ("length", "stop")


def test_parity_over_http(server, base, folders, tmp_path):
    file = tmp_path / "prompts.jsonl"
    file.write_text("\n".join(json.dumps({"prompt": prompt}) for prompt in PROMPTS))
    options = ["--model", base, "--base-url", server.url, "--prompts", file, "--max-tokens", 6]
    same = ragkit("parity", *options, "--adapter", folders["a"], "--other", "openai:a")
    assert (same.returncode, same.stdout.split()[:3]) == (0, ["3", "of", "3"]), same.stderr
    differs = ragkit("parity", *options, "--adapter", folders["a"], "--other", "openai:b", "--json")
    first = json.loads(differs.stdout)["first"]
    assert (differs.returncode, first["prompt"]) == (1, PROMPTS[first["index"]])
    assert first["texts"][0] == load_model(base, adapter=folders["a"]).generate(first["prompt"], max_tokens=6).text
    assert ragkit("parity", "--model", "tiny", "--other", "tiny", "--prompts", file).returncode == 2


def test_files_of_prompts(tmp_path):
    file = tmp_path / "p.jsonl"
    rows = [{"prompt": "{x}"}, {"input": "red"}, {"messages": [{"role": "user", "content": "hi"}]}]
    file.write_text("\n".join(map(json.dumps, rows)))
    read = read_prompts(file)
    assert read.prompts[0] == "{x}"
    assert read.prompts[1].text == "Input: red\nOutput:"
    assert read.prompts[2] == Chat((Message("user", "hi"),))
    assert read.stop == ("\n\n",)
    file.write_text(json.dumps(rows[0]))
    assert read_prompts(file).stop == ()
    for bad, message in (
        ("", "p.jsonl"),
        ('{"text": "x"}', "row 1"),
        ('{"prompt": "x"}\n{"messages": [{"role": "tool", "content": "x"}]}', "row 2"),
        ("[]", "p.jsonl"),
    ):
        file.write_text(bad)
        with pytest.raises(DataFileError, match=message):
            read_prompts(file)
