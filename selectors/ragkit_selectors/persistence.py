"""Saving and loading of selectors: a folder with examples as JSON Lines, vectors as an array, and a manifest.

Data files are named by the hash of their content and never changed, and the manifest is replaced last, so a crash
leaves the old state intact. Posting lists are not stored, because rebuilding them from the texts is faster than reading
them from most disks, and they cannot be damaged.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from ragkit.errors import IntegrityError, InvalidInputError, UnsupportedError
from ragkit.files import checked, make_folder, with_checksum, write_atomic
from ragkit.protocols import Embedder
from ragkit.records import Example
from ragkit.registry import Kind, components
from ragkit.templates import Template
from ragkit_selectors.pool import Entry, Pool
from ragkit_selectors.stages import prompt_order
from ragkit_selectors.stages.base import Stage

if TYPE_CHECKING:
    from ragkit_selectors.base import Selecting

MANIFEST = "selector.json"
# Settings that are missing in folders of older versions, with the values that these versions used.
_ADDED_LATER: dict[str, dict[str, object]] = {"BM25Selector": {"analyzer": None}}
# Partial files, which a crash can leave behind, have different names in older versions.
_OURS = re.compile(
    r"\.?(?:selector\.json|examples-[0-9a-f]{16}\.jsonl|vectors-[0-9a-f]{16}\.npy)(?:(?:\.[0-9a-f]{8})?\.partial)?"
)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    sha256: str


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kind: str
    arguments: dict[str, object]


class _Manifest(BaseModel):
    model_config = ConfigDict(extra="forbid")
    format: Literal[1] = 1
    selector: _Part
    stages: list[_Part]
    key: str
    output: str
    serial: int
    embedder: str | None = None
    embedder_fingerprint: str | None = None
    examples: _File
    vectors: _File | None = None


def save(selector: Selecting, path: str | Path) -> None:
    """Save a selector to a folder.

    Args:
        selector: The selector.
        path: A new folder, an empty folder, or a folder with a saved selector.

    Raises:
        InvalidInputError: If the folder contains other files, or an example cannot be written as JSON.
    """
    folder = Path(path)
    if folder.exists() and not (folder.is_dir() and all(map(_is_ours, folder.iterdir()))):
        raise InvalidInputError(f"{folder} holds something other than a selector; give a new folder")
    source, pool = selector.source, selector.source.pool
    part = _Part(kind=type(source).__name__, arguments=source._config())
    stages = [_described(stage) for stage in selector.stages]
    lines = "".join(_line(entry) for entry in pool.entries if entry)
    embedder, vectors = source._embedded() or (None, None)
    make_folder(folder)
    manifest = _Manifest(
        selector=part,
        stages=stages,
        key=pool.key,
        output=pool.output,
        serial=pool.serial,
        embedder=embedder.name if embedder else None,
        embedder_fingerprint=embedder.fingerprint if embedder else None,
        examples=_write(folder, "examples", ".jsonl", lines.encode()),
        vectors=None if vectors is None else _write(folder, "vectors", ".npy", _bytes(vectors)),
    )
    write_atomic(folder / MANIFEST, with_checksum(manifest.model_dump_json(indent=1)))
    used = {MANIFEST, manifest.examples.name, manifest.vectors.name if manifest.vectors else ""}
    for old in folder.iterdir():
        if old.name not in used:
            old.unlink()


def load(path: str | Path, root: type, *, embedder: str | Embedder | None = None) -> Selecting:
    """Load a selector from a folder.

    Args:
        path: The folder.
        root: Base class whose subclasses are searched for selectors that are not registered.
        embedder: Replaces the embedder that the manifest names; it must return the same vectors.

    Returns:
        The selector, including its stages.

    Raises:
        InvalidInputError: If the folder does not contain a selector, or the embedder differs from the original one.
        IntegrityError: If a file is damaged.
    """
    folder = Path(path)
    if not (folder / MANIFEST).is_file():
        raise InvalidInputError(f"{folder} holds no selector: there is no {MANIFEST}; expected what `save` wrote")
    try:
        manifest = _Manifest.model_validate_json(checked((folder / MANIFEST).read_bytes()))
    except ValueError as error:
        first = error.errors(include_url=False)[0] if isinstance(error, ValidationError) else {"msg": error}
        raise IntegrityError(
            f"{folder / MANIFEST} is damaged or newer than this ragkit: {first.get('loc', '')} {first['msg']}"
        ) from error
    pool = Pool([], key=manifest.key, output=manifest.output)
    pool.append([_entry(line, pool) for line in _read(folder, manifest.examples).decode().splitlines()])
    pool.serial = manifest.serial
    arguments: dict[str, object] = _ADDED_LATER.get(manifest.selector.kind, {}) | manifest.selector.arguments
    if manifest.vectors is not None:
        vectors = np.load(io.BytesIO(_read(folder, manifest.vectors)), allow_pickle=False)
        arguments |= {"embedder": _same_embedder(manifest, embedder), "vectors": vectors}
    made = _class_of(manifest.selector.kind, root)
    try:
        selector: Selecting = made(pool, **arguments)
        for part in manifest.stages:
            selector |= _stage(part)
    except TypeError as error:  # an unknown argument
        raise IntegrityError(f"{folder / MANIFEST} is damaged or newer than this ragkit: {error}") from error
    return selector


def _is_ours(path: Path) -> bool:
    return path.is_file() and _OURS.fullmatch(path.name) is not None


def _same_embedder(manifest: _Manifest, embedder: str | Embedder | None) -> Embedder:
    from ragkit.embedders import load_embedder

    loaded: Embedder = load_embedder(embedder or manifest.embedder or "")
    if loaded.fingerprint != manifest.embedder_fingerprint:
        raise InvalidInputError(
            f"the pool was embedded by {manifest.embedder!r} ({manifest.embedder_fingerprint}), but {loaded.name!r} "
            f"gives other vectors ({loaded.fingerprint}); load with the one that was used, or build the selector again"
        )
    return loaded


def _class_of(kind: str, root: type) -> type[Any]:
    """Return the class of a saved selector: a registered one, or a custom one that the program has imported."""
    imported = {each.__name__: each for each in _below(root)}
    found = _registered("selector", kind) or imported.get(kind)
    if found is None:
        raise InvalidInputError(
            f"a {kind} was saved there, which is not a known class; import or install its module, then load"
        )
    return found


def _registered(kind: Kind, name: str) -> type[Any] | None:
    """Return the registered component with this class name, or None."""
    found = [each for each in components(kind) if re.split("[:.]", each.origin)[-1] == name]
    loaded: type[Any] | None = found[0].load() if found else None
    return loaded


def _below(parent: type[Any]) -> Iterator[type[Any]]:
    for each in parent.__subclasses__():
        yield each
        yield from _below(each)


def _described(stage: Stage) -> _Part:
    kind = type(stage).__name__
    if _stage_class(kind) is not type(stage):
        raise UnsupportedError(
            f"a {kind} cannot be saved; save the selector without it and put it behind after loading"
        )
    arguments = {
        each.name: getattr(stage, each.name) for each in fields(cast("Any", stage)) if each.init and each.compare
    }
    arguments = {name: asdict(value) if isinstance(value, Template) else value for name, value in arguments.items()}
    for name, value in arguments.items():
        if not isinstance(value, (str, int, float, tuple, dict, type(None))):
            raise UnsupportedError(
                f"{kind}({name}=…) holds a {type(value).__name__}, which cannot be saved; give its spec, or save the "
                "selector without this stage and put it behind after loading"
            )
    return _Part(kind=kind, arguments=arguments)


def _stage_class(name: str) -> type[Any] | None:
    # The ids of a pool cannot be part of a spec.
    return prompt_order.Pinned if name == prompt_order.Pinned.__name__ else _registered("stage", name)


def _stage(part: _Part) -> Stage:
    made = _stage_class(part.kind)
    if made is None:
        raise InvalidInputError(f"a stage {part.kind} was saved there, which this ragkit does not know; update it")
    arguments = {
        name: Template(**value | {"labels": tuple(value.get("labels", ()))})  # JSON has no tuples
        if name == "template" and isinstance(value, dict)
        else value
        for name, value in part.arguments.items()
    }
    stage: Stage = made(**arguments)
    return stage


def _line(entry: Entry) -> str:
    if isinstance(entry.given, Example):
        example = entry.example
        value = example.input if isinstance(example.input, str) else dict(example.input)
        row: dict[str, object] = {"input": value, "output": example.output, "metadata": example.metadata}
        row |= {"has_id": example.id is not None}
    else:
        row = {"given": dict(entry.given)}
    try:
        # Non-ASCII characters are escaped: no text can contain a line separator, and lone surrogates are preserved.
        return json.dumps({"id": entry.id, **row}, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"example {entry.id!r} cannot be written as JSON: {error}") from error


def _entry(line: str, pool: Pool) -> Entry:
    from ragkit_selectors.example_parsing import read_example

    row = json.loads(line)
    given: Example | Mapping[str, object]
    if "given" in row:
        given = row["given"]
        example = read_example(given, "a saved example", pool.output)
    else:
        own = row["id"] if row["has_id"] else None
        given = example = Example(row["input"], row["output"], id=own, metadata=row["metadata"])
    return Entry(row["id"], example.text(pool.key), example, given)


def _bytes(array: NDArray[np.float32]) -> bytes:
    written = io.BytesIO()
    np.save(written, array, allow_pickle=False)
    return written.getvalue()


def _write(folder: Path, stem: str, suffix: str, content: bytes) -> _File:
    digest = hashlib.sha256(content).hexdigest()
    path = folder / f"{stem}-{digest[:16]}{suffix}"
    if not path.is_file() or path.read_bytes() != content:
        write_atomic(path, content)
    return _File(name=path.name, sha256=digest)


def _read(folder: Path, file: _File) -> bytes:
    path = folder / file.name
    if path.parent != folder or not path.is_file():
        raise IntegrityError(f"{path} is missing; restore the folder from a copy, or build the selector again")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise IntegrityError(f"{path} is not what was saved; restore it from a copy, or build the selector again")
    return content
