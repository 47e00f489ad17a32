"""Attacks of adapters, checkpoints, fine-tuned folders and embedders that come from someone else."""

from __future__ import annotations

import json
import os
import shutil
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from attack_case import Attack

from ragkit import load_embedder, load_model
from ragkit.errors import RagkitError
from ragkit.finetuning._manifest import MANIFEST, Manifest, TemplateRecord, files_hash
from ragkit.finetuning._runs import CHECKPOINTS, last_checkpoint, seal_checkpoint
from ragkit.tiny import WEIGHTS

SETTINGS = {
    "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": str(WEIGHTS), "r": 4, "lora_alpha": 8,
    "target_modules": ["q_proj"], "bias": "none", "megatron_core": "megatron.core", "inference_mode": True,
}  # fmt: skip


class Payload:
    """An object whose pickle creates a file when it is read."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.marker),)


def refused(work: Callable[[], object], marker: Path | None = None) -> str:
    """Return "" if the work raises an error of ragkit and has not created the marker."""
    try:
        found = work()
    except RagkitError:
        found = None
    except BaseException as error:  # noqa: BLE001 - what it is is the result
        return f"raised {type(error).__name__}: {str(error)[:200]}"
    if marker is not None and marker.exists():
        return "code of the file was run"
    return "" if found is None else f"accepted it: {found!r}"


def quietly(work: Callable[[Path], str], folder: Path) -> str:
    """Run an attack without the warnings of PEFT and torch, which the tests would turn into errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return work(folder)


def adapter(folder: Path, **changes: object) -> Path:
    """Write a LoRA adapter for `tiny`, with random weights and changed settings."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    with safe_open(WEIGHTS / "model.safetensors", framework="np") as file:
        shapes = {name: file.get_slice(name).get_shape() for name in set(file.keys()) if "q_proj.weight" in name}
    weights = {}
    for name, (rows, columns) in shapes.items():
        layer = "base_model.model." + name.removesuffix(".weight")
        weights[f"{layer}.lora_A.weight"] = torch.ones(4, columns)
        weights[f"{layer}.lora_B.weight"] = torch.ones(rows, 4)
    save_file(weights, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(SETTINGS | changes))
    return folder


# -- adapters ----------------------------------------------------------------------------------------------------------


def an_honest_adapter(folder: Path) -> str:
    plain, tuned = load_model("tiny"), load_model("tiny", adapter=str(adapter(folder)))
    same = np.allclose(plain.score(["dim the"], [" lamp"]), tuned.score(["dim the"], [" lamp"]))
    return "it has no effect" if same else ""


def pickled_weights(folder: Path) -> str:
    import torch

    adapter(folder / "a")
    (folder / "a/adapter_model.safetensors").unlink()
    torch.save({"weight": Payload(folder / "marker")}, folder / "a/adapter_model.bin")
    tries = [
        lambda: load_model("tiny", adapter=str(folder / "a")),
        lambda: load_model(f"hf:{folder / 'a'}"),
        lambda: _adapter_set(folder / "a"),
        lambda: _exported(folder / "a", folder / "out"),
    ]
    return next(filter(None, (refused(work, folder / "marker") for work in tries)), "")


def _adapter_set(folder: Path) -> object:
    from ragkit.models import AdapterSet

    return AdapterSet("tiny", {"a": folder})


def _exported(folder: Path, target: Path) -> object:
    from ragkit.finetuning import export_merged

    return export_merged(f"hf:{folder}", target)


def changed_weights_change_the_fingerprint(folder: Path) -> str:
    from safetensors.torch import load_file, save_file

    one, other = adapter(folder / "one"), adapter(folder / "other")
    path = other / "adapter_model.safetensors"
    save_file({name: 2 * weight for name, weight in load_file(path).items()}, path)
    prints = {load_model("tiny", adapter=str(each)).fingerprint for each in (one, other)}
    return "" if len(prints) == 2 else "two adapters share cached answers"


def setting(name: str, value: object, folder: Path) -> str:
    """A setting that must be refused."""
    return refused(lambda: load_model("tiny", adapter=str(adapter(folder / "a", **{name: value}))), folder / "marker")


REGEX = "(([a-z]+[._]?)+)+[0-9]!"
BAD_SETTINGS: dict[str, tuple[str, object]] = {
    "rank as a text": ("r", "8"),
    "rank of a billion": ("r", 10**9),
    "rank above the stored one": ("r", 10**6),
    "rank below zero": ("r", -1),
    "rank as a fraction": ("r", 4.5),
    "rank with more digits than a number may have": ("r", 10**400),
    "scale that is not a number": ("lora_alpha", float("nan")),
    "scale that is infinite": ("lora_alpha", float("inf")),
    "target modules as a number": ("target_modules", 5),
    "target modules as a regular expression that hangs": ("target_modules", REGEX),
    "target modules that hold a regular expression": ("target_modules", ["q_proj", REGEX]),
    "target modules that are lists": ("target_modules", [["q_proj"]]),
    "excluded modules as a regular expression": ("exclude_modules", REGEX),
    "pattern of layers as a regular expression": ("layers_pattern", REGEX),
    "pattern of ranks with a regular expression": ("rank_pattern", {REGEX: 8}),
    "pattern of ranks with a huge rank": ("rank_pattern", {"q_proj": 10**8}),
    "pattern of ranks with texts": ("rank_pattern", {"q_proj": "8"}),
    "pattern of scales with a regular expression": ("alpha_pattern", {REGEX: 8}),
    "modules to save as a regular expression": ("modules_to_save", [REGEX]),
    "modules to save that the file lacks": ("modules_to_save", ["lm_head"]),
    "tokens that do not exist": ("trainable_token_indices", [10**8]),
    "layers repeated a billion times": ("layer_replication", [[0, 10**9]]),
    "data-driven initialisation that reads a file": ("corda_config", {"cache_file": "/etc/passwd"}),
    "initialisation of EVA": ("eva_config", {"rho": 2.0}),
    "initialisation by an unknown word": ("init_lora_weights", "pissa_niter_999999999"),
    "initialisation that allocates first": ("init_lora_weights", "pissa"),
    "module that is imported": ("megatron_config", {"tensor_model_parallel_size": 1}),
    "type that loads further adapters": ("peft_type", "XLORA"),
    "type that does not exist": ("peft_type", "__import__"),
    "type that is a list": ("peft_type", ["LORA"]),
    "task that is a list": ("task_type", ["CAUSAL_LM"]),
    "base with a null byte": ("base_model_name_or_path", "a\0b"),
    "base that is a number": ("base_model_name_or_path", 5),
    "setting of which PEFT knows nothing": ("run", "import os"),
}


def _pissa(folder: Path) -> str:
    """An initialisation that needs its weights before they are read, with a rank that takes all memory."""
    return refused(lambda: load_model("tiny", adapter=str(adapter(folder / "a", init_lora_weights="pissa", r=10**6))))


def ignored_setting(name: str, value: object, folder: Path) -> str:
    """A setting that names code and is not used by ragkit; importing it would create a file."""
    (folder / "evil.py").write_text(f"import os; os.mkdir({str(folder / 'marker')!r})")
    import sys

    sys.path.insert(0, str(folder))
    try:
        load_model("tiny", adapter=str(adapter(folder / "a", **{name: value})))
    except RagkitError:
        pass
    finally:
        sys.path.remove(str(folder))
    return "code of the file was run" if (folder / "marker").exists() else ""


def settings_that_are_not_an_object(folder: Path) -> str:
    adapter(folder / "a")
    for text in ("[]", "5", "{", "\xff", '{"r": 1' + "0" * 5000 + "}", "[" * 100_000, " " * 2**23):
        (folder / "a/adapter_config.json").write_text(text)
        if broken := refused(lambda: load_model("tiny", adapter=str(folder / "a"))):
            return f"{text[:20]!r}: {broken}"
    return ""


def weights_that_are_damaged(folder: Path) -> str:
    path = adapter(folder / "a") / "adapter_model.safetensors"
    whole = path.read_bytes()
    header = (2**62).to_bytes(8, "little")
    for content in (b"", whole[:100], header + whole[8:], whole + b"more", b"\x80\x04" + whole):
        path.write_bytes(content)
        if broken := refused(lambda: load_model("tiny", adapter=str(folder / "a"))):
            return broken
    return ""


def weights_of_another_type(kind: str, folder: Path) -> str:
    import torch
    from safetensors.torch import load_file, save_file

    path = adapter(folder / "a") / "adapter_model.safetensors"
    save_file({name: weight.to(getattr(torch, kind)) for name, weight in load_file(path).items()}, path)
    return refused(lambda: load_model("tiny", adapter=str(folder / "a")).generate("dim", max_tokens=2).text)


def weights_that_are_not_numbers(folder: Path) -> str:
    from safetensors.torch import load_file, save_file

    path = adapter(folder / "a") / "adapter_model.safetensors"
    save_file({name: weight * float("nan") for name, weight in load_file(path).items()}, path)
    model = load_model("tiny", adapter=str(folder / "a"))
    uses: list[Callable[[], object]] = [
        lambda: model.generate("dim", max_tokens=2).text,
        lambda: model.generate("dim", max_tokens=2, temperature=1.0).text,
        lambda: model.generate("dim", max_tokens=2, choices=["a", "b"]).text,
        lambda: model.score(["dim"], ["a", "b"]),
    ]
    for use in uses:
        try:
            use()
        except RagkitError:
            pass
        except Exception as error:  # noqa: BLE001 - what it is is the result
            return f"raised {type(error).__name__}: {str(error)[:200]}"
    return ""


def tokenizer_with_code(folder: Path) -> str:
    adapter(folder / "a")
    for path in WEIGHTS.glob("*token*"):
        shutil.copy(path, folder / "a")
    (folder / "a/own.py").write_text(f"import os; os.mkdir({str(folder / 'marker')!r})\nclass Own: ...")
    config = json.loads((WEIGHTS / "tokenizer_config.json").read_text())
    config |= {"auto_map": {"AutoTokenizer": ["own.Own", "own.Own"]}, "tokenizer_class": "Own"}
    (folder / "a/tokenizer_config.json").write_text(json.dumps(config))
    try:
        load_model("tiny", adapter=str(folder / "a"))
    except RagkitError:
        pass
    except Exception as error:  # noqa: BLE001 - what it is is the result
        return f"raised {type(error).__name__}: {str(error)[:200]}"
    return "code of the file was run" if (folder / "marker").exists() else ""


# -- base models -------------------------------------------------------------------------------------------------------


def base_with_an_adapter_inside(folder: Path) -> str:
    shutil.copytree(WEIGHTS, folder / "base")
    adapter(folder / "base", target_modules=REGEX)
    adapter(folder / "a", base_model_name_or_path=str(folder / "base"))
    tries = [
        lambda: load_model(f"hf:{folder / 'a'}"),
        lambda: load_model(f"hf:{folder / 'base'}"),
        lambda: load_model(f"hf:{folder / 'base'}", adapter=str(folder / "a")),
    ]
    return next(filter(None, map(refused, tries)), "")


def base_with_pickled_weights(folder: Path) -> str:
    import torch

    (folder / "base").mkdir()
    for path in WEIGHTS.iterdir():
        if path.is_file() and path.suffix != ".safetensors":
            shutil.copy(path, folder / "base")
    torch.save({"weight": Payload(folder / "marker")}, folder / "base/pytorch_model.bin")
    adapter(folder / "a", base_model_name_or_path=str(folder / "base"))
    tries = [lambda: load_model(f"hf:{folder / 'a'}"), lambda: _exported(folder / "a", folder / "out")]
    return next(filter(None, (refused(work, folder / "marker") for work in tries)), "")


def base_elsewhere(base: object, folder: Path) -> str:
    return refused(lambda: load_model(f"hf:{adapter(folder / 'a', base_model_name_or_path=base)}"))


# -- embedders ---------------------------------------------------------------------------------------------------------


def _evil_embedder(folder: Path, kind: str) -> Path:
    """Write a folder of sentence-transformers whose configuration names a callable."""
    (folder / "st/1_Dense").mkdir(parents=True)
    (folder / "st/model.safetensors").write_bytes(b"")
    home = "sentence_transformers.sentence_transformer.modules"
    dense = {"in_features": 2, "out_features": 2, "activation_function": "torch.nn.modules.activation.Tanh"}
    modules = [{"idx": 0, "name": "0", "path": "", "type": f"{home}.Transformer"},
               {"idx": 1, "name": "1", "path": "1_Dense", "type": f"{home}.Dense"}]  # fmt: skip
    if kind == "module":
        modules[1]["type"] = "os.getcwd"
    elif kind == "activation":
        dense["activation_function"] = "torch.hub.list"
    else:
        modules[1]["path"] = "../../outside"
    (folder / "st/modules.json").write_text(json.dumps(modules))
    (folder / "st/config.json").write_text(json.dumps({"model_type": "bert"}))
    (folder / "st/1_Dense/config.json").write_text(json.dumps(dense))
    return folder / "st"


def embedder_that_names_a_call(kind: str, folder: Path) -> str:
    from ragkit import Example, finetune
    from ragkit.retriever_training import TrainingPair, finetune_embedder, finetune_reranker

    place = _evil_embedder(folder, kind)
    pairs = [TrainingPair("a", "b", ("c",)), TrainingPair("d", "e", ("f",))]
    labelled = [Example("a", "x"), Example("b", "y")]
    uses: list[Callable[[], object]] = [
        lambda: load_embedder(f"st:{place}").embed_queries(["a"]),
        lambda: load_embedder(f"onnx:st:{place}").embed_queries(["a"]),
        lambda: finetune_embedder(f"st:{place}", pairs, output_dir=folder / "e"),
        lambda: finetune_reranker(f"cross-encoder:{place}", pairs, output_dir=folder / "r"),
        lambda: finetune(f"st:{place}", labelled, method="lora", output_dir=folder / "c"),
    ]
    return next(filter(None, map(refused, uses)), "")


# -- fine-tuned folders ------------------------------------------------------------------------------------------------


def manifest(folder: Path, **changes: Any) -> Path:
    """Write a forged manifest with a correct seal."""
    template = TemplateRecord(query="{input}", answer=" {output}", separator="\n", instruction="")
    facts: dict[str, Any] = {
        "kind": "causal", "form": "model", "method": "full", "run": "0", "base": "tiny", "base_fingerprint": "0",
        "weights": "0", "data": "0", "ask_with": template, "seed": 0, "epochs": 1, "learning_rate": None,
        "rows": {"kept": 1}, "tokens": 1, "seconds": 1, "loss": None, "versions": {},
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    Manifest(**(facts | changes)).write(folder)
    return folder


def manifest_of_another_server(folder: Path) -> str:
    address = {"remote": "openai:gpt-4o-mini", "address": "http://127.0.0.1:9/v1"}
    manifest(folder / "run", form="remote", **address)
    return refused(lambda: load_model(f"hf:{folder / 'run'}"))


def job_of_another_server(folder: Path) -> str:
    from ragkit.finetuning import cancel_finetuning

    state = {"run": "0", "base": "openai:gpt-4o-mini", "address": "http://127.0.0.1:9/v1", "job": "j"}
    (folder / "job.json").write_text(json.dumps(state))
    return refused(lambda: cancel_finetuning(folder))


def manifest_that_stands_for_a_file(folder: Path) -> str:
    (folder / "answers.jsonl").write_text("{}")
    manifest(folder / "run", form="remote", remote=f"replay:{folder / 'answers.jsonl'}")
    return refused(lambda: load_model(f"hf:{folder / 'run'}"))


def manifest_entry(name: str, value: object, folder: Path) -> str:
    """An entry of a manifest, written as JSON without any check, that must be refused."""
    text = json.loads((manifest(folder / "run") / MANIFEST).read_text())
    text[name] = value
    (folder / "run" / MANIFEST).write_text(json.dumps(text))
    return refused(lambda: load_model(f"hf:{folder / 'run'}"))


BAD_ENTRIES: dict[str, tuple[str, object]] = {
    "form that does not exist": ("form", "script"),
    "base that is a list": ("base", ["tiny"]),
    "seed with thousands of digits": ("seed", 10**4000),
    "format of the future": ("format", 10**9),
    "template with a million fields": ("ask_with", {
        "query": "{input}" * 10**6, "answer": " {output}", "separator": "\n", "instruction": "",
    }),
    "entry of which ragkit knows nothing": ("trust_remote_code", True),
    "seal of other entries": ("tokens", 7),
}  # fmt: skip


def template_that_is_jinja(folder: Path) -> str:
    text = "{{ cycler.__init__.__globals__.os.mkdir('m') }}{% for i in range(9999999) %}{% endfor %}{input}{input.x}{0}"
    record = TemplateRecord(query=text, answer=" {output}", separator="\n", instruction="")
    prompt = Manifest.read(manifest(folder / "run", ask_with=record)).template.prompt([], "lamp").text
    return "" if prompt == text.replace("{input}", "lamp") else f"the template was run: {prompt[:100]!r}"


def head(content: dict[str, Any], labels: tuple[str, ...], folder: Path) -> str:
    """A classifier's head with crafted arrays."""
    np.savez(folder / "head.npz", **content)
    _classifier(folder, labels)
    return refused(lambda: load_model(f"hf:{folder}").generate("lamp").text)


def _classifier(folder: Path, labels: tuple[str, ...]) -> None:
    fingerprint = load_embedder("hash:4").fingerprint
    kind = {"kind": "classifier", "form": "head", "method": "classifier-head"}
    manifest(folder, **kind, base="hash:4", base_fingerprint=fingerprint, labels=labels)


def head_of_objects(folder: Path) -> str:
    content = {"weight": np.array([[Payload(folder / "marker")] * 4] * 2), "bias": np.zeros(2, np.float32)}
    return head(content, ("a", "b"), folder) or ("code was run" if (folder / "marker").exists() else "")


def head_that_claims_to_be_huge(folder: Path) -> str:
    _classifier(folder, ("a", "b"))
    claim = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 400000000000), }"
    header = b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + claim.ljust(117) + b"\n"
    with zipfile.ZipFile(folder / "head.npz", "w") as archive:
        archive.writestr("weight.npy", header)
        archive.writestr("bias.npy", header)
    return refused(lambda: load_model(f"hf:{folder}"))


GOOD = {"weight": np.ones((2, 4), np.float32), "bias": np.zeros(2, np.float32)}
BAD_HEADS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "no labels": ({"weight": np.ones((0, 4), np.float32), "bias": np.zeros(0, np.float32)}, ()),
    "fewer labels than rows": (GOOD, ("a",)),
    "another dimension": (GOOD | {"weight": np.ones((2, 9), np.float32)}, ("a", "b")),
    "texts": (GOOD | {"weight": np.full((2, 4), "x")}, ("a", "b")),
    "complex numbers": (GOOD | {"weight": np.ones((2, 4), np.complex64)}, ("a", "b")),
    "a bias of another shape": (GOOD | {"bias": np.zeros((2, 1), np.float32)}, ("a", "b")),
    "no bias": ({"weight": GOOD["weight"]}, ("a", "b")),
}


def tuned_model_with_an_adapter_inside(folder: Path) -> str:
    shutil.copytree(WEIGHTS, folder / "model")
    adapter(folder / "model", target_modules=REGEX)
    manifest(folder, weights=files_hash(folder / "model"))
    return refused(lambda: load_model(f"hf:{folder}"))


# -- checkpoints -------------------------------------------------------------------------------------------------------


def _checkpoint(folder: Path) -> Path:
    """Train a linear layer for one step, and return its sealed checkpoint."""
    trainer = _trainer(folder)
    trainer.train()
    path = folder / CHECKPOINTS / "checkpoint-1"
    seal_checkpoint(path)
    return path


def _trainer(folder: Path) -> Any:
    import torch
    from transformers import PrinterCallback, Trainer, TrainingArguments

    from ragkit.finetuning._training_loop import Watched, trainer_arguments

    class Linear(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(2, 1)

        def forward(self, x: Any) -> dict[str, Any]:
            return {"loss": self.layer(x).mean()}

    class LinearTrainer(Watched, Trainer):
        pass

    arguments = trainer_arguments(
        TrainingArguments, folder, epochs=1, learning_rate=0.1, batch_size=1, seed=0, special={}, given={}
    )
    rows = [{"x": torch.ones(2)}]
    trainer = LinearTrainer(model=Linear(), args=arguments, train_dataset=rows)
    trainer.remove_callback(PrinterCallback)
    return trainer


def an_honest_checkpoint(folder: Path) -> str:
    path = _checkpoint(folder)
    found = last_checkpoint(folder)
    if found != str(path):
        return f"the run does not resume: {found}"
    _trainer(folder).train(resume_from_checkpoint=found)
    return ""


def changed_checkpoint(folder: Path) -> str:
    path = _checkpoint(folder)
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin", "model.safetensors"):
        before = (path / name).read_bytes()
        (path / name).write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        if last_checkpoint(folder) is not None:
            return f"a run resumes from a changed {name}"
        (path / name).write_bytes(before)
    (path / "pytorch_model.bin").write_bytes(b"more")
    return "a run resumes from a checkpoint with a further file" if last_checkpoint(folder) else ""


def checkpoint_of_another_program(folder: Path) -> str:
    path = _checkpoint(folder)
    (path / "checksums.json").unlink()
    return "a run resumes from a checkpoint that ragkit did not finish" if last_checkpoint(folder) else ""


def best_checkpoint_outside(folder: Path) -> str:
    path = _checkpoint(folder)
    state = json.loads((path / "trainer_state.json").read_text())
    for place in ("/etc", str(folder.parent), 5, ["x"]):
        (path / "trainer_state.json").write_text(json.dumps(state | {"best_model_checkpoint": place}))
        seal_checkpoint(path)
        if last_checkpoint(folder) is not None:
            return f"the best weights are read from {place}"
    return ""


def forged_pickle(name: str, folder: Path) -> str:
    """A checkpoint with a correct seal, in which one pickle file runs code when it is read."""
    import torch

    path = _checkpoint(folder)
    torch.save({"state": Payload(folder / "marker")}, path / name)
    seal_checkpoint(path)
    found = last_checkpoint(folder)
    return refused(lambda: _trainer(folder).train(resume_from_checkpoint=found) and None, folder / "marker")


def checkpoint_with_pickled_weights(folder: Path) -> str:
    import torch

    path = _checkpoint(folder)
    (path / "model.safetensors").unlink()
    torch.save({"layer.weight": Payload(folder / "marker")}, path / "pytorch_model.bin")
    seal_checkpoint(path)
    work = partial(_trainer(folder).train, resume_from_checkpoint=last_checkpoint(folder))
    return refused(work, folder / "marker")


ATTACKS = [
    Attack("an adapter without any attack loads", "Honest adapters load.", an_honest_adapter),
    Attack("adapter with pickled weights", "Adapters are read only from safetensors.", pickled_weights),
    Attack(
        "two adapters with the same settings", "The fingerprint of a model includes its adapter's weights.",
        changed_weights_change_the_fingerprint,
    ),
    *(
        Attack(f"adapter: {what}", "Settings of adapters are numbers and names.", partial(setting, *given))
        for what, given in BAD_SETTINGS.items() if what != "initialisation that allocates first"
    ),
    Attack("adapter: initialisation that allocates first", "Settings of adapters are numbers and names.", _pissa),
    *(
        Attack(f"adapter: {what}", "Adapters name no code.", partial(ignored_setting, *given))
        for what, given in {
            "mapping to a class": ("auto_mapping", {"base_model_class": "x", "parent_library": "evil"}),
            "core that is imported": ("megatron_core", "evil"),
            "runtime settings": ("runtime_config", {"parent_library": "evil"}),
        }.items()
    ),
    Attack("adapter settings that are not an object", "Parsers do not crash.", settings_that_are_not_an_object),
    Attack("adapter weights that are damaged", "Damage is an error.", weights_that_are_damaged),
    *(
        Attack(f"adapter weights of type {kind}", "Damage is an error.", partial(weights_of_another_type, kind))
        for kind in ("float64", "int8", "bool")
    ),
    Attack("adapter weights that are not numbers", "Models do not crash.", weights_that_are_not_numbers),
    Attack("adapter with a tokenizer that is code", "Code in a folder is never run.", tokenizer_with_code),
    *(
        Attack(f"embedder with a foreign {kind}", "Embedders name no code.", partial(embedder_that_names_a_call, kind))
        for kind in ("module", "activation", "path")
    ),
    Attack("base model with an adapter inside", "Every adapter is checked.", base_with_an_adapter_inside),
    Attack("tuned model with an adapter inside", "Every adapter is checked.", tuned_model_with_an_adapter_inside),
    Attack("base model with pickled weights", "Weights are read only from safetensors.", base_with_pickled_weights),
    *(
        Attack(f"adapter of the base {str(base)!r}", "A base model is a model.", partial(base_elsewhere, base))
        for base in ("/etc/passwd", "/dev/zero", "../../etc", "a/b/c", "gguf:/etc/passwd", "openai:gpt-4o-mini", "")
    ),
    Attack("model at another server", "Keys are sent only to addresses of the caller.", manifest_of_another_server),
    Attack("job at another server", "Keys are sent only to addresses of the caller.", job_of_another_server),
    Attack("remote model that is a file", "A remote model is an API model.", manifest_that_stands_for_a_file),
    *(
        Attack(f"manifest: {what}", "Parsers do not crash.", partial(manifest_entry, *given))
        for what, given in BAD_ENTRIES.items()
    ),
    Attack("manifest with a template in Jinja", "Templates are never run.", template_that_is_jinja),
    *(
        Attack(f"head with {what}", "Damage is an error.", partial(head, *given)) for what, given in BAD_HEADS.items()
    ),
    Attack("head of objects", "Pickles are not read.", head_of_objects),
    Attack("head that claims to be huge", "Damage is an error.", head_that_claims_to_be_huge),
    Attack("a checkpoint without any attack resumes", "Interrupted runs resume.", an_honest_checkpoint),
    Attack("checkpoint with changed bytes", "Damage is detected.", changed_checkpoint),
    Attack("checkpoint of another program", "Runs resume only from checkpoints of ragkit.",
           checkpoint_of_another_program),
    Attack("best checkpoint outside of the run", "Runs read no files outside.", best_checkpoint_outside),
    *(
        Attack(f"checkpoint with a forged {name}", "Pickles of checkpoints run no code.", partial(forged_pickle, name))
        for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin")
    ),
    Attack("checkpoint with pickled weights", "Weights are read only from safetensors.",
           checkpoint_with_pickled_weights),
]  # fmt: skip
ATTACKS = [replace(attack, run=partial(quietly, attack.run)) for attack in ATTACKS]
