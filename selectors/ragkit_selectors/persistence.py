"""Saving and loading of selectors: a folder with examples as JSON Lines, vectors as an array, and a manifest.

Data files are named by the hash of their content and never changed, and the manifest is replaced last, so a crash
leaves the old state intact. Posting lists are not stored, because rebuilding them from the texts is faster than reading
them from most disks, and they cannot be damaged.

A folder from a stranger may contain anything, so `load` creates only registered classes and imported subclasses of
`PoolSelector`, passes them arguments of the annotated types, reads only regular files of the folder, and loads only
embedders and models whose names cannot lead to another folder, hub or API.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from inspect import signature
from pathlib import Path
from types import GenericAlias
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast, get_type_hints

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ragkit._files import checked, make_folder, with_checksum, write_atomic
from ragkit._text import read_json
from ragkit.embedders import load_embedder
from ragkit.errors import IntegrityError, InvalidInputError, RagkitError, UnknownSpecError, UnsupportedError
from ragkit.protocols import Embedder
from ragkit.records import Example
from ragkit.registry import Kind, components, find
from ragkit.templates import Template
from ragkit_selectors.example_parsing import read_example
from ragkit_selectors.pool import Entry, Pool
from ragkit_selectors.stages.base import Stage
from ragkit_selectors.stages.prompt_order import Pinned

if TYPE_CHECKING:
    from ragkit_selectors.base import BaseSelector

MANIFEST = "selector.json"
# Settings that are missing in folders of older versions, with the values that these versions used.
_ADDED_LATER: dict[str, dict[str, object]] = {"BM25Selector": {"analyzer": None}}
_DATA_FILE = r"(?:examples-[0-9a-f]{16}\.jsonl|vectors-[0-9a-f]{16}\.npy)"
# Partial files, which a crash can leave behind, have different names in older versions.
_OWN_FILE = re.compile(rf"\.?(?:selector\.json|{_DATA_FILE})(?:(?:\.[0-9a-f]{{8}})?\.partial)?")
_NOT_SETTINGS = {"self", "examples", "key", "output", "embedder", "vectors"}  # arguments that are stored elsewhere
_SPECS_OF_STAGES: dict[str, Kind] = {"embedder": "embedder", "counter": "model"}  # arguments that are specs


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _File(_Model):
    name: str
    sha256: str


class _Part(_Model):
    kind: str
    arguments: dict[str, object]


class _Manifest(_Model):
    format: Literal[1] = 1
    selector: _Part
    stages: Annotated[list[_Part], Field(max_length=100)]
    key: str
    output: str
    serial: Annotated[int, Field(ge=0, lt=2**63)]
    embedder: str | None = None
    embedder_fingerprint: str | None = None
    examples: _File
    vectors: _File | None = None


# -- saving ------------------------------------------------------------------------------------------------------------


def save(selector: BaseSelector, path: str | Path) -> None:
    """Save a selector to a new folder, an empty folder, or a folder with a saved selector.

    Raises:
        InvalidInputError: If the folder contains other files, or an example cannot be written as JSON.
        UnsupportedError: If a part of the selector cannot be saved.
    """
    folder = Path(path)
    if folder.exists() and not (folder.is_dir() and all(map(_is_own_file, folder.iterdir()))):
        raise InvalidInputError(f"{folder} holds something other than a selector; give a new folder")
    source, pool = selector.source, selector.source.pool
    part = _Part(kind=type(source).__name__, arguments=source._config())
    stages = [_part_of_stage(stage) for stage in selector.stages]
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
        vectors=None if vectors is None else _write(folder, "vectors", ".npy", _array_bytes(vectors)),
    )
    write_atomic(folder / MANIFEST, with_checksum(manifest.model_dump_json(indent=1)))
    used = {MANIFEST, manifest.examples.name, manifest.vectors.name if manifest.vectors else ""}
    for old in folder.iterdir():
        if old.name not in used:
            old.unlink()


def _is_own_file(path: Path) -> bool:
    return path.is_file() and _OWN_FILE.fullmatch(path.name) is not None


def _part_of_stage(stage: Stage) -> _Part:
    kind = type(stage).__name__
    advice = "save the selector without it and append it after loading"
    if _stage_class(kind) is not type(stage):
        raise UnsupportedError(f"a {kind} cannot be saved; {advice}")
    arguments = {
        each.name: getattr(stage, each.name) for each in fields(cast("Any", stage)) if each.init and each.compare
    }
    arguments = {name: asdict(value) if isinstance(value, Template) else value for name, value in arguments.items()}
    for name, value in arguments.items():
        if not isinstance(value, (str, int, float, tuple, dict, type(None))):
            raise UnsupportedError(f"{kind}({name}=…) is a {type(value).__name__}, which cannot be saved; {advice}")
        if name in _SPECS_OF_STAGES and value is not None and not _names_no_place(_SPECS_OF_STAGES[name], value):
            raise UnsupportedError(f"{kind}({name}={value!r}) names another place and cannot be saved; {advice}")
    return _Part(kind=kind, arguments=arguments)


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
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInputError(f"example {entry.id!r} cannot be written as JSON: {error}") from error


def _array_bytes(array: NDArray[np.float32]) -> bytes:
    written = io.BytesIO()
    np.save(written, array, allow_pickle=False)
    return written.getvalue()


def _write(folder: Path, stem: str, suffix: str, content: bytes) -> _File:
    digest = hashlib.sha256(content).hexdigest()
    path = folder / f"{stem}-{digest[:16]}{suffix}"
    if not path.is_file() or path.read_bytes() != content:
        write_atomic(path, content)
    return _File(name=path.name, sha256=digest)


# -- loading -----------------------------------------------------------------------------------------------------------


def load(path: str | Path, root: type, *, embedder: str | Embedder | None = None) -> BaseSelector:
    """Load a selector, including its stages, from a folder.

    Args:
        path: The folder.
        root: Base class whose imported subclasses are accepted in addition to the registered selectors.
        embedder: Replaces the embedder that the manifest names; it must return the same vectors. Required if the
            manifest names an embedder of another folder, of a hub or of an API.

    Returns:
        The selector.

    Raises:
        InvalidInputError: If the folder does not contain a selector, or the embedder differs from the original one.
        IntegrityError: If a file is damaged.
        RagkitError: If the embedder cannot be loaded.
    """
    folder = Path(path)
    if not (folder / MANIFEST).is_file():
        raise InvalidInputError(f"{folder} holds no selector: there is no {MANIFEST}; expected what `save` wrote")
    try:
        manifest = _Manifest.model_validate_json(checked(_content(folder / MANIFEST)))
        pool = _read_pool(folder, manifest)
        made = _selector_class(manifest.selector.kind, root)
        saved = _ADDED_LATER.get(manifest.selector.kind, {}) | manifest.selector.arguments
        arguments = _typed_arguments(made, saved)
        if manifest.vectors is not None:
            arguments["vectors"] = _array(_read(folder, manifest.vectors))
            arguments["embedder"] = _same_embedder(manifest, embedder)
        selector: BaseSelector = made(pool, **arguments)
        for stage in map(_load_stage, manifest.stages):
            selector |= stage
    except RagkitError:
        raise
    except (TypeError, ValueError, LookupError, AttributeError, OverflowError, RecursionError) as error:
        raise IntegrityError(f"{folder / MANIFEST} is damaged or newer than this ragkit: {_reason(error)}") from error
    return selector


def _reason(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


def _read_pool(folder: Path, manifest: _Manifest) -> Pool:
    pool = Pool([], key=manifest.key, output=manifest.output)
    lines = _read(folder, manifest.examples).decode().splitlines()
    pool.append([_entry(line, pool) for line in lines])
    if len(pool) != len(lines):
        raise IntegrityError(f"{folder / manifest.examples.name} is damaged: two examples have the same id")
    pool.serial = manifest.serial
    return pool


def _entry(line: str, pool: Pool) -> Entry:
    row = cast("Any", read_json(line))
    if "given" in row:
        given = row["given"]
        example = read_example(given, "a saved example", pool.output)
    else:
        own = row["id"] if row["has_id"] else None
        given = example = read_example(
            Example(row["input"], row["output"], id=own, metadata=row["metadata"]), "a saved example"
        )
    if not isinstance(row["id"], str) or not isinstance(example.metadata, Mapping | None):
        raise TypeError("a saved example has an id or metadata of another type")
    return Entry(row["id"], example.text(pool.key), example, given)


def _selector_class(kind: str, root: type) -> type[Any]:
    """Return the class of a saved selector: a registered one, or a custom one that the program has imported."""
    found = _registered("selector", kind) or {each.__name__: each for each in _below(root)}.get(kind)
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


def _stage_class(name: str) -> type[Any] | None:
    return Pinned if name == Pinned.__name__ else _registered("stage", name)  # the ids of a pool have no spec


def _load_stage(part: _Part) -> Stage:
    made = _stage_class(part.kind)
    if made is None:
        raise InvalidInputError(f"a stage {part.kind} was saved there, which this ragkit does not know; update it")
    for name, kind in _SPECS_OF_STAGES.items():
        spec = part.arguments.get(name)
        if spec is not None and not _names_no_place(kind, spec):
            raise InvalidInputError(
                f"the saved stage {part.kind}({name}={spec!r:.200}) names another place, which `load` does not read; "
                "save the selector without it and append it after loading"
            )
    stage: Stage = made(**_typed_arguments(made, part.arguments, reserved=set()))
    return stage


def _typed_arguments(
    made: type[Any], saved: Mapping[str, object], reserved: set[str] = _NOT_SETTINGS
) -> dict[str, object]:
    """Convert saved arguments to the annotated types of a class; values of other types are rejected."""
    hints: dict[str, Any] = get_type_hints(made.__init__)
    known = {name: hints.get(name, Any) for name in signature(made).parameters}
    arguments: dict[str, object] = {}
    for name, value in saved.items():
        if name not in known or name in reserved:
            raise ValueError(f"{made.__name__} has no setting {name!r}")
        wrapped: Any = GenericAlias(tuple, (known[name],))  # pydantic takes no configuration for a bare dataclass
        adapter = TypeAdapter(wrapped, config=ConfigDict(arbitrary_types_allowed=True, extra="forbid"))
        (arguments[name],) = adapter.validate_json(json.dumps([value]), strict=True)
    return arguments


def _names_no_place(kind: Kind, spec: object) -> bool:
    """Return whether a spec names a component without a folder, a hub or an API: its only arguments are numbers."""
    if spec == "words" and kind == "model":  # the counter of `TokenLimit` that needs no model
        return True
    if not isinstance(spec, str):
        return False
    try:
        component = find(kind, spec)
        given = component.arguments(spec)
    except UnknownSpecError:
        return False
    # Also a folder or a model of an API may have a number as its name.
    return not given or all("int" in str(each.annotation) for each in [*component.parameters().values()][: len(given)])


def _same_embedder(manifest: _Manifest, embedder: str | Embedder | None) -> Embedder:
    if embedder is None and not _names_no_place("embedder", manifest.embedder):
        raise InvalidInputError(
            f"the pool was embedded by {manifest.embedder!r:.200}, which `load` does not read by itself, because it "
            "lies outside the folder; pass it as `embedder`"
        )
    loaded: Embedder = load_embedder(embedder or manifest.embedder or "")
    if loaded.fingerprint != manifest.embedder_fingerprint:
        raise InvalidInputError(
            f"the pool was embedded by {manifest.embedder!r} ({manifest.embedder_fingerprint}), but {loaded.name!r} "
            f"gives other vectors ({loaded.fingerprint}); load with the one that was used, or build the selector again"
        )
    return loaded


def _array(content: bytes) -> NDArray[np.float32]:
    """Return a saved array, whose header cannot claim more numbers than there are."""
    file = io.BytesIO(content)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("the vectors have another format")
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype != np.float32:
        raise ValueError(f"the vectors must be float32, got {dtype}")
    return np.frombuffer(content, np.float32, offset=file.tell()).reshape(shape)


def _read(folder: Path, file: _File) -> bytes:
    path = folder / file.name
    if not re.fullmatch(_DATA_FILE, file.name) or not path.is_file():
        raise IntegrityError(f"{path} is missing; restore the folder from a copy, or build the selector again")
    content = _content(path)
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise IntegrityError(f"{path} is not what was saved; restore it from a copy, or build the selector again")
    return content


def _content(path: Path) -> bytes:
    if path.is_symlink():
        raise IntegrityError(f"{path} is a symbolic link; expected a regular file, as `save` writes it")
    return path.read_bytes()
