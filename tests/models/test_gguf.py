"""GGUF files: what is converted equals the model that was written, and whatever can be wrong is said."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from random_gguf import MERGES, random_llama, save_gguf, vocabulary

from ragkit.errors import IntegrityError, InvalidInputError, RagkitError
from ragkit.models import load_model
from ragkit.models._gguf_header import GgufHeader

TEXTS = ["<|endoftext|>", "a lamp  lamps", "x =  12", " 3.14\n\n", "naïve 東京 <eos>", ""]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("RAGKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def module() -> Any:
    return random_llama()


@pytest.fixture
def file(tmp_path: Path, module: Any) -> Path:
    return save_gguf(tmp_path / "model.gguf", module)


def is_equal(found: Any, expected: Any) -> bool:
    """Whether two models have the same weights."""
    weights, others = found.state_dict(), expected.state_dict()
    return weights.keys() == others.keys() and all(torch.equal(weights[name], others[name]) for name in others)


def converted(cache: Path) -> list[str]:
    """What is in the cache, the lock file excluded."""
    return sorted(path.name for path in (cache / "gguf").iterdir() if path.name != ".lock")


def weights_in(cache: Path) -> Path:
    (folder,) = (cache / "gguf").glob("*-v*")
    return folder / "model/model.safetensors"


def header_of(path: Path) -> GgufHeader:
    import gguf

    return GgufHeader.read(path, name="it", sizes={int(kind): size for kind, size in gguf.GGML_QUANT_SIZES.items()})


def test_weights_and_settings_are_those_of_the_file(file: Path, module: Any):
    loaded: Any = load_model(f"gguf:{file}", dtype="float32")
    assert is_equal(loaded.module, module)
    assert (loaded.capabilities.window, loaded.tokenizer.eos_token, loaded.capabilities.chat) == (256, "<eos>", False)
    assert loaded.name == loaded.source == f"gguf:{file}"


def test_answers_are_those_of_the_model(file: Path, module: Any):
    loaded: Any = load_model(f"gguf:{file}", dtype="float32")
    plain: Any = random_llama()
    ids = torch.tensor([loaded.encode_prompt("a lamp")])
    written = plain.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
    assert loaded.generate("a lamp", max_tokens=12).text == loaded.tokenizer.decode(
        written[0, ids.shape[1] :], skip_special_tokens=True
    )


def test_tokens_are_those_of_the_vocabulary(file: Path):
    from tokenizers import Tokenizer, models, pre_tokenizers

    ranks = {token: place for place, token in enumerate(vocabulary())}
    plain = Tokenizer(models.BPE(ranks, MERGES))
    digits, words = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.pre_tokenizer = pre_tokenizers.Sequence([digits, words])
    loaded: Any = load_model(f"gguf:{file}")
    assert len(loaded.tokenizer) == len(ranks)  # none is added that the model has no weights for
    for text in TEXTS:
        assert loaded.encode_text(text) == plain.encode(text).ids
        assert loaded.tokenizer.decode(plain.encode(text).ids) == text
    assert loaded.encode_text("x =  12")[-3:] == [ranks["ĠĠ"], ranks["1"], ranks["2"]]  # "12" is a token of its own


def test_a_file_is_converted_once_and_found_by_its_content(file: Path, cache: Path, tmp_path: Path):
    first = load_model(f"gguf:{file}")
    written = weights_in(cache).stat()
    copy = file.rename(tmp_path / "elsewhere.gguf")
    assert load_model(f"gguf:{copy}").fingerprint == first.fingerprint
    assert weights_in(cache).stat().st_ino == written.st_ino
    other = save_gguf(tmp_path / "other.gguf", random_llama(seed=1))
    assert load_model(f"gguf:{other}").fingerprint != first.fingerprint
    assert len(converted(cache)) == 2


def test_the_fingerprint_does_not_depend_on_the_cache(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first = load_model(f"gguf:{file}").fingerprint
    monkeypatch.setenv("RAGKIT_CACHE", str(tmp_path / "another"))
    assert load_model(f"gguf:{file}").fingerprint == first


def flip(path: Path, place: int = -100) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        flip,
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.unlink(),
        lambda path: flip(path.parent / "tokenizer.json"),
        lambda path: (path.parent / "extra.json").write_text("{}"),
        lambda path: (path.parent.parent / "conversion.json").write_text('{"source": 1}'),
        lambda path: (path.parent.parent / "conversion.json").unlink(),
    ],
)
def test_a_damaged_conversion_is_made_again(damage, file: Path, cache: Path, module: Any):
    load_model(f"gguf:{file}")
    damage(weights_in(cache))
    loaded: Any = load_model(f"gguf:{file}", dtype="float32")
    assert is_equal(loaded.module, module)
    assert len(converted(cache)) == 1


def with_nan(path: Path) -> Path:
    broken = random_llama()
    broken.model.layers[1].mlp.up_proj.weight.data[3, 4] = float("nan")
    return save_gguf(path, broken)


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda path, _: path.mkdir(), InvalidInputError, "there is no file"),
        (lambda path, _: None, InvalidInputError, "there is no file"),
        (lambda path, _: path.write_bytes(b""), InvalidInputError, "is not a GGUF file"),
        (lambda path, _: path.write_bytes(b"PK\x03\x04" * 99), InvalidInputError, r"begin with b'GGUF', got b'PK"),
        (
            lambda path, _: path.write_bytes(b"GGUF\x01\0\0\0" + bytes(99)),
            InvalidInputError,
            "GGUF version 1, expected",
        ),
        (lambda path, _: path.write_bytes(b"GGUF\0\0\0\x03" + bytes(99)), InvalidInputError, "little-endian"),
        (lambda path, good: path.write_bytes(good[:300]), IntegrityError, "is truncated: it ends within its header"),
        (lambda path, good: path.write_bytes(good[:-1]), IntegrityError, r"truncated: expected [\d,]+ bytes, got"),
        (
            lambda path, good: path.write_bytes(good.replace(b"llama.context_length", b"\xff" * 20, 1)),
            IntegrityError,
            "is damaged: .*utf-8",
        ),
        (
            lambda path, _: save_gguf(path, random_llama(), facts={"general.architecture": "abacus"}),
            InvalidInputError,
            "architecture 'abacus', which transformers .* cannot read; supported: .*llama",
        ),
        (
            lambda path, _: save_gguf(path, random_llama(), drop=("general.architecture",)),
            InvalidInputError,
            "architecture 'None'",
        ),
        (
            lambda path, _: save_gguf(path, random_llama(), drop=("tokenizer.ggml.tokens",)),
            InvalidInputError,
            "contains no tokenizer",
        ),
        (
            lambda path, _: save_gguf(path, random_llama(), drop=("llama.attention.head_count",)),
            InvalidInputError,
            "cannot be converted by transformers .*; use another file",
        ),
        (
            lambda path, _: save_gguf(path, random_llama(), drop=("blk.1.ffn_up.weight",)),
            IntegrityError,
            "lacks 1 weights of a llama model, such as model.layers.1.mlp.up_proj.weight",
        ),
        (
            lambda path, _: save_gguf(path, random_llama(), facts={"split.count": 3}),
            InvalidInputError,
            "is one of 3 parts; join them",
        ),
        (lambda path, _: with_nan(path), IntegrityError, r"damaged: model.layers.1.mlp.up_proj.weight .* not finite"),
    ],
)
def test_files_that_cannot_be_loaded(make, kind, message: str, file: Path, cache: Path, tmp_path: Path):
    make(tmp_path / "bad.gguf", file.read_bytes())
    with pytest.raises(kind, match=message):
        load_model(f"gguf:{tmp_path / 'bad.gguf'}")
    assert not cache.exists() or converted(cache) == []


def test_every_truncation_is_noticed(file: Path, tmp_path: Path):
    data, short = file.read_bytes(), tmp_path / "short.gguf"
    header_of(file)
    for length in [*range(8, 12_000, 61), *range(12_000, len(data), 20_011), len(data) - 1]:
        short.write_bytes(data[:length])
        with pytest.raises(IntegrityError, match="truncated"):
            header_of(short)


def test_a_damaged_header_is_an_error_or_another_header(file: Path, tmp_path: Path):
    data, damaged = file.read_bytes(), tmp_path / "damaged.gguf"
    refused = 0
    for place in range(0, 3000, 17):
        for bit in (1, 128):
            changed = bytearray(data)
            changed[place] ^= bit
            damaged.write_bytes(changed)
            try:
                header_of(damaged)
            except RagkitError:
                refused += 1
    assert refused > 80


def test_a_cache_that_cannot_be_written(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "taken").write_text("")
    monkeypatch.setenv("RAGKIT_CACHE", str(tmp_path / "taken"))
    with pytest.raises(InvalidInputError, match="set RAGKIT_CACHE to a writable folder"):
        load_model(f"gguf:{file}")


CHILD = """
import sys, time
from ragkit.models import _gguf as gguf, load_model
read = gguf._read
gguf._read = lambda *given: print("converts", flush=True) or read(*given)
if sys.argv[2] == "hang":  # with all files written, but not yet in their place
    gguf.files_hash = lambda folder: print("hangs", flush=True) or time.sleep(60)
print(load_model(sys.argv[1]).fingerprint)
"""


def start(spec: str, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", CHILD, spec, *more], stdout=subprocess.PIPE, text=True)


def test_a_process_killed_while_it_converts(file: Path, cache: Path):
    with start(f"gguf:{file}", "hang") as child:
        assert child.stdout is not None
        while "hangs" not in child.stdout.readline():
            pass
        os.kill(child.pid, signal.SIGKILL)
    assert [name[0] for name in converted(cache)] == ["."]  # a partial one, which is not taken for a model
    assert load_model(f"gguf:{file}").generate("a", max_tokens=2).usage.completion_tokens == 2
    assert [name[0] == "." for name in converted(cache)] == [False]


def test_a_process_waits_for_another_that_converts(file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch):
    from ragkit.models import _gguf as gguf

    with start(f"gguf:{file}", "") as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "converts\n"
        monkeypatch.setattr(gguf, "_read", None)  # is not called
        fingerprint = load_model(f"gguf:{file}").fingerprint
        assert child.stdout.read() == f"{fingerprint}\n"
    assert len(converted(cache)) == 1


def test_a_fine_tuned_model_names_the_file_and_not_the_cache(
    file: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from ragkit import Example, finetune
    from ragkit.finetuning import export_merged
    from ragkit.models import AdapterSet

    rows = [Example("lamp", "on"), Example("fan", "off")]
    tuned = finetune(f"gguf:{file}", rows, output_dir=tmp_path / "run", epochs=1)
    answer = tuned.model.generate("a lamp", max_tokens=4).text
    manifest = json.loads((tmp_path / "run/ragkit.json").read_text())
    assert manifest["base"] == f"gguf:{file}"
    assert str(tmp_path / "cache") not in json.dumps(manifest)

    cache.rename(tmp_path / "gone")  # as on another machine
    monkeypatch.setenv("RAGKIT_CACHE", str(tmp_path / "another"))
    assert load_model(f"hf:{tmp_path / 'run'}").generate("a lamp", max_tokens=4).text == answer
    adapters = AdapterSet(f"gguf:{file}", {"a": tmp_path / "run"})
    assert adapters["a"].generate("a lamp", max_tokens=4).text == answer
    export_merged(f"hf:{tmp_path / 'run'}", tmp_path / "merged")
    merged = load_model(f"hf:{tmp_path / 'merged'}", dtype="float32")
    assert merged.generate("a lamp", max_tokens=1).text == answer[: len(merged.generate("a lamp", max_tokens=1).text)]

    save_gguf(file, random_llama(seed=1))
    for load in (
        lambda: load_model(f"hf:{tmp_path / 'run'}"),
        lambda: AdapterSet(f"gguf:{file}", {"a": tmp_path / "run"}),
    ):
        with pytest.raises(IntegrityError, match="trained on gguf:"):
            load()


def test_a_file_is_exported_as_it_is(file: Path, tmp_path: Path, module: Any):
    from ragkit.finetuning import export_merged

    export_merged(f"gguf:{file}", tmp_path / "exported")
    exported: Any = load_model(f"hf:{tmp_path / 'exported'}", dtype="float32")
    assert is_equal(exported.module, module)
