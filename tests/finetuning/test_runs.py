"""Faults, resumption, reports, and what is passed on to the trainer."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from ragkit import Example, finetune, load_model
from ragkit.errors import (
    EmptyPoolError,
    IntegrityError,
    InvalidInputError,
    TrainingError,
    UnknownSpecError,
    UnsupportedError,
)
from ragkit.finetuning._runs import last_checkpoint, seal_checkpoint
from ragkit.records import Preference
from ragkit.tiny import WEIGHTS

ROWS = [Example(f"{word} the lamp", f"{symbol} lamp") for word, symbol in (("dim", "fade"), ("light", "glow"))] * 4
QUICK = {"epochs": 1}


@pytest.fixture
def tuned(tmp_path):
    return finetune("tiny", ROWS, output_dir=tmp_path / "run", **QUICK)


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """A base whose arithmetic gives no numbers."""
    folder = tmp_path_factory.mktemp("broken")
    for file in WEIGHTS.iterdir():
        shutil.copy(file, folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.embedding_norm.weight"][:] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return f"hf:{folder}"


@pytest.mark.parametrize(
    ("objective", "rows"),
    [("completion", ROWS), ("text", ["a text"]), ("preference", [Preference("a", "b", "c")])],
)
def test_a_loss_that_is_no_number_ends_the_run_and_leaves_nothing(tmp_path, broken, objective, rows):
    with pytest.raises(TrainingError, match="the loss became nan in step 1; lower `learning_rate`"):
        finetune(broken, rows, objective=objective, output_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_error_before_the_first_checkpoint_leaves_nothing(tmp_path):
    config = peft.LoraConfig(target_modules=["no_such_layer"], task_type="CAUSAL_LM")
    with pytest.raises(ValueError, match="no_such_layer"):
        finetune("tiny", ROWS, peft_config=config, output_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_files_of_the_user_stay(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InvalidInputError, match="is not empty and holds no run"):
        finetune("tiny", ROWS, output_dir=tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_one_row_is_enough_for_a_language_model_and_too_few_for_a_classifier(tmp_path):
    assert finetune("tiny", ROWS[:1], eval=ROWS[:1], output_dir=tmp_path / "a", **QUICK).manifest.rows["kept"] == 1
    with pytest.raises(InvalidInputError, match="two labels at least"):
        finetune("hash:8", ROWS[:1], method="classifier-head", output_dir=tmp_path / "b")
    with pytest.raises(EmptyPoolError):
        finetune("tiny", ROWS, eval=[], output_dir=tmp_path / "c")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]


def test_a_label_that_is_missing_is_named(tmp_path):
    rows = [Example("a", "x"), Example("b", "")]
    for model, method in (("hash:8", "classifier-head"), ("tiny", "lora")):
        with pytest.raises(InvalidInputError, match=r"`train\[1\]` has no output"):
            finetune(model, rows, method=method, output_dir=tmp_path / "out")


def test_damaged_weights_are_refused(tuned):
    path = tuned.folder / "model/adapter_model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(IntegrityError, match="damaged or were changed"):
        load_model(f"hf:{tuned.folder}")
    with pytest.raises(IntegrityError, match="file is damaged, or the adapter belongs"):
        load_model("tiny", adapter=str(tuned.folder / "model"))
    path.unlink()
    with pytest.raises(IntegrityError, match="damaged or were changed"):
        load_model(f"hf:{tuned.folder}")


def test_an_adapter_of_another_base_is_refused(tuned, tmp_path):
    from transformers import LlamaConfig, LlamaForCausalLM

    size = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 6, "num_attention_heads": 4}
    LlamaForCausalLM(LlamaConfig(vocab_size=848, **size)).save_pretrained(tmp_path / "llama")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(WEIGHTS / name, tmp_path / "llama")
    with pytest.raises(IntegrityError, match="belongs to another base"):
        load_model(f"hf:{tmp_path / 'llama'}", adapter=str(tuned.folder / "model"))
    soft = finetune("tiny", ROWS, method="prompt-tuning", output_dir=tmp_path / "soft", **QUICK)
    with pytest.raises(IntegrityError, match="belongs to another base"):
        load_model(f"hf:{tmp_path / 'llama'}", adapter=str(soft.folder / "model"))


def test_a_template_that_changed_is_refused(tuned):
    path = tuned.folder / "ragkit.json"
    manifest = json.loads(path.read_text())
    manifest["ask_with"]["query"] = "Q: {input}\nA:"
    path.write_text(json.dumps(manifest))
    with pytest.raises(IntegrityError, match=r"template .* was changed after training"):
        load_model(f"hf:{tuned.folder}")


def test_a_chat_template_that_changed_in_the_base_is_refused(tmp_path):
    shutil.copytree(WEIGHTS, tmp_path / "base")
    finetune(f"hf:{tmp_path / 'base'}", ROWS, output_dir=tmp_path / "run", **QUICK)
    (tmp_path / "base/chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    with pytest.raises(IntegrityError, match="train again or bring the old base back"):
        load_model(f"hf:{tmp_path / 'run'}")


def test_training_stops_early_and_keeps_the_best_epoch(tmp_path, tiny):
    """The held-out answers contradict the training rows, so the loss on them grows from the first epoch on."""
    contrary = [Example(row.input, "zebra quilt") for row in ROWS[:2]]
    run = finetune(
        "tiny", ROWS, eval=contrary, epochs=30, patience=2, learning_rate=1e-2, output_dir=tmp_path,
        trainer_config={"warmup_steps": 0},
    )  # fmt: skip
    assert 3 <= run.manifest.epochs < 30
    tokens = sum(len(tiny.encode_prompt(f"Input: {row.input}\nOutput:")) for row in ROWS)
    tokens += sum(len(tiny.encode_text(f" {row.output}\n\n")) + 1 for row in ROWS)
    assert run.manifest.tokens == run.manifest.epochs * tokens
    # What is stored is the epoch with the lowest loss: measured afresh, the loss is the one that was recorded.
    total, count = 0.0, 0
    for row in contrary:
        head = tiny.encode_prompt(f"Input: {row.input}\nOutput:")
        tail = [*tiny.encode_text(f" {row.output}\n\n"), tiny.tokenizer.eos_token_id]
        with torch.inference_mode():
            logits = run.model.module(torch.tensor([head + tail])).logits[0, len(head) - 1 : -1]
        total += float(torch.nn.functional.cross_entropy(logits, torch.tensor(tail), reduction="sum"))
        count += len(tail)
    assert run.manifest.eval_loss == pytest.approx(total / count, rel=1e-3)


def test_the_manifest_counts_tokens_and_operations(tuned, tiny):
    lengths = [len(tiny.encode_prompt(f"Input: {row.input}\nOutput:")) for row in ROWS]
    lengths = [n + len(tiny.encode_text(f" {row.output}\n\n")) + 1 for n, row in zip(lengths, ROWS, strict=True)]
    manifest = tuned.manifest
    assert manifest.tokens == sum(lengths)
    weights = sum(weight.numel() for weight in tiny.module.parameters())
    assert 4 * weights * sum(lengths) < manifest.flops < 5.5 * weights * sum(lengths)  # LoRA: 4, and its own weights
    assert manifest.seconds > 0
    assert set(manifest.versions) == {"torch", "transformers", "peft", "trl"}


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        ({"learning_rate": 1e-3}, InvalidInputError, "must not hold 'learning_rate'; give `learning_rate`"),
        ({"num_train_epochs": 1}, InvalidInputError, "give `epochs`"),
        ({"max_length": 12}, InvalidInputError, "give `max_length`"),
        ({"push_to_hub": True}, InvalidInputError, "call `push_to_hub`"),
        ({"warmup_stepz": 3}, UnknownSpecError, "Did you mean 'warmup_steps'"),
        ({"save_strategy": "sometimes"}, InvalidInputError, "refused by SFTConfig"),
    ],
)
def test_a_trainers_field_that_conflicts_is_an_error(tmp_path, config, error, message):
    with pytest.raises(error, match=message):
        finetune("tiny", ROWS, trainer_config=config, output_dir=tmp_path / "out")
    with pytest.raises(error, match=message.replace("SFTConfig", "TrainingArguments").replace("'max_length'", "")):
        finetune("minilm", [Example("a", "x"), Example("b", "y")], method="full", trainer_config=config,
                 output_dir=tmp_path / "out")  # fmt: skip
    assert not (tmp_path / "out").exists()


def test_configurations_are_passed_on_whole(tmp_path):
    config = peft.LoraConfig(r=3, target_modules=["q_proj"], use_dora=True, task_type="CAUSAL_LM")
    run = finetune("tiny", ROWS, peft_config=config, trainer_config={"max_steps": 3, "per_device_train_batch_size": 2},
                   output_dir=tmp_path / "a", epochs=9)  # fmt: skip
    stored = load_file(tmp_path / "a/model/adapter_model.safetensors")
    assert {name.split(".")[6] for name in stored} == {"q_proj"}
    assert any("magnitude" in name for name in stored)
    assert run.manifest.epochs == pytest.approx(3 * 2 / len(ROWS))
    same = finetune("tiny", ROWS, peft_config=config, trainer_config={"max_steps": 3, "per_device_train_batch_size": 2},
                    output_dir=tmp_path / "a", epochs=9)  # fmt: skip
    assert same.manifest == run.manifest


def test_checkpointed_activations_give_the_same_adapter(tmp_path):
    plain = finetune("tiny", ROWS, output_dir=tmp_path / "a", **QUICK)
    spared = finetune("tiny", ROWS, gradient_checkpointing=True, output_dir=tmp_path / "b", **QUICK)
    for name, weight in load_file(plain.folder / "model/adapter_model.safetensors").items():
        other = load_file(spared.folder / "model/adapter_model.safetensors")[name]
        assert torch.allclose(weight, other, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"objective": "texts"}, UnknownSpecError, "Did you mean 'text'"),
        ({"layers": 0, "method": "last-layers"}, InvalidInputError, "`layers` must be a whole number"),
        ({"layers": 99, "method": "last-layers"}, InvalidInputError, "at most 6"),
        ({"patience": 2}, InvalidInputError, "requires `eval`"),
        ({"max_length": 4}, InvalidInputError, "`max_length` must be"),
        ({"method": "prompt-tuning", "objective": "text"}, UnsupportedError, "trained on completions"),
    ],
)
def test_arguments_that_make_no_sense_leave_no_folder(tmp_path, arguments, error, message):
    with pytest.raises(error, match=message):
        finetune("tiny", ROWS, output_dir=tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("method", "objective", "rows"),
    [
        ("prompt-tuning", "completion", ROWS),
        ("last-layers", "text", ["a lamp", "a fan"]),
        ("lora", "preference", [Preference("a", "b", "c")]),
    ],
)
def test_every_method_goes_on_after_a_kill_to_the_same_bytes(tmp_path, monkeypatch, method, objective, rows):
    import ragkit.finetuning._causal as causal

    class DiesInTheThirdEpoch(causal.StepProgress):
        def on_epoch_begin(self, args, state, control, **_):
            if state.epoch >= 2:
                raise KeyboardInterrupt

    settings = {"method": method, "objective": objective, "epochs": 4, "eval": rows[:1]}
    with monkeypatch.context() as patch:
        patch.setattr(causal, "StepProgress", DiesInTheThirdEpoch)
        with pytest.raises(KeyboardInterrupt):
            finetune("tiny", rows, output_dir=tmp_path / "a", **settings)
    resumed = finetune("tiny", rows, output_dir=tmp_path / "a", **settings)
    whole = finetune("tiny", rows, output_dir=tmp_path / "b", **settings)
    assert resumed.manifest.weights == whole.manifest.weights
    assert resumed.manifest.tokens == whole.manifest.tokens
    assert resumed.manifest.eval_loss == whole.manifest.eval_loss


def test_a_spec_and_a_loaded_model_are_one_run(tmp_path, tiny):
    first = finetune("tiny", ROWS, output_dir=tmp_path, **QUICK)
    assert finetune(tiny, ROWS, output_dir=tmp_path, **QUICK).manifest == first.manifest


def test_an_encoders_loss_that_is_no_number_ends_its_run(tmp_path, monkeypatch):
    import ragkit.finetuning._classifier as classifier

    broken = np.full((2, 384), np.nan, dtype=np.float32), np.zeros(2, dtype=np.float32)
    monkeypatch.setattr(classifier, "fit_head", lambda *_: broken)
    with pytest.raises(TrainingError, match="the loss became nan in step 1"):
        finetune("minilm", [Example("a", "x"), Example("b", "y")], method="full", output_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nobody_is_told_of_a_training(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr("trl.trainer.base_trainer.send_telemetry", lambda *given, **_: told.append(given))
    preferences = [Preference("dim the lamp", "fade lamp", "glow lamp")]
    finetune("tiny", ROWS[:2], output_dir=tmp_path / "completion", **QUICK)
    finetune("tiny", preferences, objective="preference", output_dir=tmp_path / "preference", **QUICK)
    assert told == []


def test_the_newest_whole_checkpoint_is_taken(tmp_path):
    paths = {step: tmp_path / f"checkpoints/checkpoint-{step}" for step in (9, 10, 11)}
    for path in paths.values():
        path.mkdir(parents=True)
        (path / "trainer_state.json").write_text("{}")
    seal_checkpoint(paths[9])
    seal_checkpoint(paths[10])
    assert last_checkpoint(tmp_path) == str(paths[10])
    (paths[10] / "optimizer.pt").write_bytes(b"added later")
    assert last_checkpoint(tmp_path) == str(paths[9])
    (paths[9] / "trainer_state.json").write_text('{"half')
    assert last_checkpoint(tmp_path) is None


def test_the_best_checkpoint_belongs_to_the_run(tmp_path):
    best, last = (tmp_path / f"checkpoints/checkpoint-{step}" for step in (1, 2))
    for path in (best, last):
        path.mkdir(parents=True)
        (path / "trainer_state.json").write_text(json.dumps({"best_model_checkpoint": str(best)}))
        seal_checkpoint(path)
    assert last_checkpoint(tmp_path) == str(last)
    (best / "adapter_model.safetensors").write_bytes(b"changed")
    assert last_checkpoint(tmp_path) is None


def test_an_upload_is_asked_for_and_holds_weights_and_manifest(tuned, monkeypatch):
    import huggingface_hub

    calls = []

    class Hub:
        def __init__(self, token) -> None:
            assert token == "secret"

        def create_repo(self, name, *, private, exist_ok):
            calls.append((name, private))
            return f"https://hub/{name}"

        def upload_folder(self, *, repo_id, folder_path, commit_message):
            calls.append((repo_id, sorted(path.name for path in folder_path.iterdir())))

        def upload_file(self, *, repo_id, path_or_fileobj, path_in_repo):
            calls.append((repo_id, path_in_repo))

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    assert tuned.push_to_hub("me/lamps", token="secret") == "https://hub/me/lamps"
    assert calls[0] == ("me/lamps", True)
    assert "adapter_model.safetensors" in calls[1][1]
    assert "training_args.bin" not in calls[1][1]
    assert calls[2] == ("me/lamps", "ragkit.json")
    assert not any("secret" in file.read_text(errors="ignore") for file in tuned.folder.rglob("*") if file.is_file())
    with pytest.raises(InvalidInputError, match="'<user>/<name>'"):
        tuned.push_to_hub("lamps", token="secret")


SCRIPT = """
import os
import sys
from ragkit import Example, finetune
rows = [Example(f"{word} the lamp", "fade lamp") for word in ("dim", "light")] * 8
tuned = finetune("tiny", rows, epochs=2, output_dir=sys.argv[1], trainer_config={"per_device_train_batch_size": 4})
print("tuned", tuned.manifest.tokens, os.environ["WORLD_SIZE"], flush=True)
"""


@pytest.mark.slow
def test_several_processes_train_one_model(tmp_path):
    (tmp_path / "train.py").write_text(SCRIPT)
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29871"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1"}
    done = subprocess.run(
        [*launch, tmp_path / "train.py", tmp_path / "out"], capture_output=True, text=True, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("tuned") == 2
    assert load_model(f"hf:{tmp_path / 'out'}").generate("Input: dim the lamp\nOutput:", max_tokens=4).text
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["model", "ragkit.json", "run.json"]
