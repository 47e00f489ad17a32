"""Attacks on saved selectors: folders whose manifest, examples or vectors a stranger wrote, with valid checksums."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from attack_case import Attack
from refusals import first, refused

from ragkit import BM25Selector, EmbeddingSelector, Guard, HybridSelector, JaccardSelector, TokenLimit
from ragkit._files import checked, with_checksum
from ragkit.records import Example
from ragkit.selectors import BaseSelector, Coverage, Mmr, Order

POOL = [Example(f"dim the lamp {n}", "light" if n % 2 else "dark") for n in range(8)]


def forge(folder: Path, change: Callable[[Any], object], *, dense: bool = True) -> Path:
    """Save a selector, change its manifest, and write a valid checksum."""
    source = EmbeddingSelector(POOL, embedder="hash:8") if dense else BM25Selector(POOL)
    (source | Mmr()).save(folder)
    path = folder / "selector.json"
    manifest = json.loads(checked(path.read_bytes()))
    change(manifest)
    path.write_text(with_checksum(json.dumps(manifest)))
    return folder


def forge_file(folder: Path, kind: str, content: bytes) -> Path:
    """Save a selector, and replace its examples or vectors by other content with valid checksums."""
    digest = hashlib.sha256(content).hexdigest()
    name = f"{kind}-{digest[:16]}{'.jsonl' if kind == 'examples' else '.npy'}"
    forge(folder, lambda manifest: manifest.update({kind: {"name": name, "sha256": digest}}))
    (folder / name).write_bytes(content)
    return folder


def loaded(folders: Iterable[tuple[str, Path]]) -> str:
    """Return nothing if none of the folders can be loaded."""
    return first(refused(partial(BaseSelector.load, folder), what) for what, folder in folders)


def changed(folder: Path, changes: Iterable[dict[str, object]], *, dense: bool = True) -> str:
    """Return nothing if no selector whose manifest has one of these changes can be loaded."""
    return loaded(
        (str(change)[:200], forge(folder / str(place), lambda manifest, new=change: manifest.update(new), dense=dense))
        for place, change in enumerate(changes)
    )


def part(kind: str, arguments: dict[str, object]) -> dict[str, object]:
    return {"kind": kind, "arguments": arguments}


def other_classes(folder: Path) -> str:
    names = ["subprocess.Popen", "Popen", "ragkit.models._loading:load_local", "load_local", "Task", "PoolSelector"]
    names += ["Pipeline", "LexicalSelector", "_OverlapSelector", "object", "", "../x", "ReplayModel", "\0"]
    sources: list[dict[str, object]] = [{"selector": part(name, {})} for name in (*names, "Mmr")]
    return changed(folder, [*sources, *({"stages": [part(name, {})]} for name in (*names, "BM25Selector"))])


def other_arguments(folder: Path) -> str:
    wrong: list[dict[str, object]] = [{"k1": value} for value in ("1", [1], {}, True, 10**400, float("nan"), None)]
    wrong += [
        {"examples": []},
        {"self": 1},
        {"embedder": "st:/etc"},
        {"vectors": [[1.0]]},
        {"key": "x"},
        {"__dict__": 1},
    ]
    wrong += [{"analyzer": value} for value in (5, ["english"], "klingon", "../english")]
    parts = [part("BM25Selector", arguments) for arguments in wrong]
    parts += [part("TfidfSelector", {"grams": value}) for value in (["word", 1, 10**9], ["word", 1], "word", [1, 1, 1])]
    parts += [part("HybridSelector", {"weights": value}) for value in ({"hybrid": 1}, {"x:y": 1}, {"bm25": "1"}, [], 1)]
    return changed(folder, [{"selector": each} for each in parts], dense=False)


def other_stages(folder: Path) -> str:
    parts = [part("Mmr", {"fetch_k": value}) for value in ("9", [9], True, 1.5, -1, None, {"a": 1})]
    parts += [part("Mmr", {"trade_off": value}) for value in ("0.5", [], float("nan"), 2)]
    parts += [part("Coverage", {"embedder": value}) for value in ("st:/etc", "st:evil/model", "onnx:st:evil/x", 5, {})]
    parts += [part("TokenLimit", {"counter": value}) for value in ("hf:/etc", "openai:x", "gguf:x", "replay:/", 7, [])]
    parts += [part("TokenLimit", {"template": value}) for value in ("x", {"query": 5}, {"evil": ""}, {"query": "x"})]
    parts += [part("Pinned", {"ids": value}) for value in ("0", [0], [["0"]], {"0": 1}, None)]
    parts += [part("Order", {"order": "sideways"}), part("Order", {"seed": "x"}), part("LabelNearest", {"label": 3})]
    parts += [part("MinScore", {"score": "0"}), part("MinScore", {}), part("Guard", {"near": []})]
    parts += [part("Rerank", {"score": "tiny"})]
    lists = [[each] for each in parts] + [[part("Guard", {})] * 100_000]
    return changed(folder, [{"stages": stages} for stages in lists])


def other_embedders(folder: Path) -> str:
    outside = folder / "model"
    outside.mkdir()
    os.mkfifo(outside / "config.json")  # a process that reads it waits forever
    os.mkfifo(outside / "modules.json")
    specs = [f"st:{outside}", f"onnx:st:{outside}", "st:evil/model", "langchain:x", "openai:text-embedding-3-small", ""]
    specs += ["hash:x", "hash:999999999999", "hash:-8", "hash:16", "nowhere", "st:", "\0"]
    return changed(folder, [{"embedder": spec} for spec in specs])


def array(header: str) -> bytes:
    """Return an ``.npy`` file with any header and 64 bytes of numbers."""
    text = header.encode() + b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + b"\0" * 64


def array_of(value: float) -> bytes:
    written = io.BytesIO()
    np.save(written, np.full((8, 8), value, dtype=np.float32))
    return written.getvalue()


def other_arrays(folder: Path) -> str:
    shapes = [("<f4", "(8, 1000000000000)"), ("<f4", "(1000000000000, 8)"), ("|O", "(8,)"), ("<f8", "(1, 8)")]
    shapes += [
        ("<f4", "(-8, -2)"),
        ("<f4", "()"),
        ("<f4", "(8, 2, 1)"),
        ("<U4", "(4,)"),
        ("<f4", "(" * 99 + ")" * 99),
    ]
    made = [array(f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}") for kind, shape in shapes]
    made += [array_of(float("nan")), array_of(float("inf")), made[0].replace(b"NUMPY\x01", b"NUMPY\x03")]
    made += [b"", b"\x93NUMPY", b"PK\x03\x04", b"\x80\x04K\x01.", array("(" * 30_000)]
    files = ((repr(each[:99]), forge_file(folder / str(place), "vectors", each)) for place, each in enumerate(made))
    return loaded(files)


def other_examples(folder: Path) -> str:
    own = {"id": "0", "input": "x", "output": "y", "metadata": None, "has_id": True}
    rows: list[object] = [[], 5, "x", None, {}, {"id": "0"}, {"id": 5, "given": {"input": "x", "output": "y"}}]
    rows += [own | {"input": 5}, own | {"output": 5}, own | {"metadata": "x"}, own | {"id": ["0"]}, own | {"input": {}}]
    rows += [{"id": "0", "given": 5}, {"id": "0", "given": {"input": {"a": 1}, "output": "y"}}]
    texts = [json.dumps(row) for row in rows]
    texts += ["[" * 100_000, "{" * 9, '{"id": ' + "9" * 5000 + "}", "\ud800", "", "\0", "\u2028"]
    texts += [json.dumps(own) + "\n" + json.dumps(own)]
    texts += [json.dumps(own)[:-1] + ', "metadata": ' + '{"a":' * 100_000 + "1" + "}" * 100_000 + "}"]
    made = [text.encode("utf-8", "surrogatepass") for text in texts] + [b"\x80\xff"]
    files = ((repr(each[:99]), forge_file(folder / str(place), "examples", each)) for place, each in enumerate(made))
    return loaded(files)


def files_elsewhere(folder: Path) -> str:
    secret = folder / "secret.jsonl"
    secret.write_text(json.dumps({"id": "0", "given": {"input": "a secret", "output": "y"}}) + "\n")
    digest = hashlib.sha256(secret.read_bytes()).hexdigest()
    names = [
        "../secret.jsonl",
        str(secret),
        "selector.json",
        "",
        ".",
        "\0",
        "a" * 5000,
    ]
    found = changed(folder, [{"examples": {"name": name, "sha256": digest}} for name in names])
    replaced: list[tuple[str, Path]] = []
    for target in (secret, Path("/dev/zero"), Path("/dev/stdin"), folder, None):
        made = forge_file(folder / f"s{len(replaced)}", "examples", secret.read_bytes())
        path = made / f"examples-{digest[:16]}.jsonl"
        path.unlink()
        if target is None:
            os.mkfifo(path)
        else:
            path.symlink_to(target)
        replaced.append((f"link to {target}", made))
    linked = folder / "linked"
    linked.mkdir()
    (linked / "selector.json").symlink_to(folder / "s0" / "selector.json")
    return found or loaded([*replaced, ("manifest", linked)])


def nested_manifests(folder: Path) -> str:
    texts = ["[" * 200_000, '{"selector": ' * 100_000, '{"format": 1, "serial": ' + "9" * 5000 + "}", "null", "\0", ""]
    texts += ['{"format": 1e999}', "\ufeff{}", '{"serial": -1}']
    found = []
    for place, text in enumerate(texts):
        (folder / f"m{place}").mkdir()
        (folder / f"m{place}" / "selector.json").write_text(text)
        found.append((text[:40], folder / f"m{place}"))
    serials: list[object] = [-1, 2**63, 1.5, True, "1", None, 10**300]
    return loaded(found) or changed(folder, [{"serial": value} for value in serials])


def saved_elsewhere(folder: Path) -> str:
    stages = (Coverage("st:/etc"), TokenLimit(9, "hf:/etc"), TokenLimit(9, "openai:gpt-4o"))
    saves = [partial((BM25Selector(POOL) | stage).save, folder / "s") for stage in stages]
    found = first(refused(save, repr(stage)) for save, stage in zip(saves, stages, strict=True))
    return found or ("something was written" if (folder / "s").exists() else "")


def what_was_saved_is_loaded(folder: Path) -> str:
    """The rules must not refuse what `save` writes."""
    sources = [BM25Selector(POOL), EmbeddingSelector(POOL, embedder="hash:8"), JaccardSelector(POOL)]
    sources += [HybridSelector(POOL, {"bm25": 1, "embedding": 0.5}, embedder="hash:8", fusion="weighted", depth=3)]
    for place, source in enumerate(sources):
        selector = source | Guard() | Mmr(0.3) | Coverage("hash:8") | TokenLimit(99, "tiny") | Order("shuffled", seed=2)
        selector.save(folder / str(place))
        again = BaseSelector.load(folder / str(place))
        if again.stages != selector.stages or type(again.source) is not type(source):
            return f"{again!r} instead of {selector!r}"
    return ""


LOADS = "Loading a selector creates only selectors and stages, with arguments of the annotated types"
FILES = "Loading a selector reads only regular files of its folder"
NAMES = "A saved selector cannot name an embedder or a model of another folder, of a hub or of an API"
SIZES = "A forged selector is an error of ragkit, and takes no more memory than its files"

ATTACKS = [
    Attack("kinds that are not selectors or stages", LOADS, other_classes),
    Attack("arguments of other types", LOADS, other_arguments),
    Attack("stages with arguments of other types", LOADS, other_stages),
    Attack("what save writes is still loaded", LOADS, what_was_saved_is_loaded),
    Attack("embedders elsewhere", NAMES, other_embedders),
    Attack("stages that read elsewhere are not saved", NAMES, saved_elsewhere),
    Attack("files, links and pipes elsewhere", FILES, files_elsewhere),
    Attack("arrays with forged headers and checksums", SIZES, other_arrays),
    Attack("examples with forged checksums", SIZES, other_examples),
    Attack("nested manifests and long numbers", SIZES, nested_manifests),
]
