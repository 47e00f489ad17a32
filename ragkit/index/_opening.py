"""Creating and opening the store of an index, after all arguments are checked."""

from __future__ import annotations

import os
import re
import tempfile
import warnings
import weakref
from collections.abc import Mapping
from pathlib import Path
from shutil import rmtree
from typing import Literal, cast

import numpy as np

from ragkit._extras import require
from ragkit._files import make_folder
from ragkit._text import shown
from ragkit.embedders import load_embedder
from ragkit.errors import InvalidInputError, RagkitWarning
from ragkit.index._database import NAME, is_bare
from ragkit.index._factories import check_factory
from ragkit.index._gpu_cards import Device, card_numbers
from ragkit.index._snapshot import MAX_DIM, Facts, rows_checksum
from ragkit.index._store import Store
from ragkit.protocols import Embedder

Metric = Literal["cosine", "ip", "l2"]
_METRICS = ("cosine", "ip", "l2")
_DTYPES = ("float32", "float16")
_CONTAINED = re.compile(r"(onnx:)?minilm|hash:\d+|langchain:.*")  # they come with ragkit, or cannot be loaded by name
_LEFT = {"writer.lock", NAME, f"{NAME}-wal", f"{NAME}-shm"}  # files that an interrupted creation leaves


def create_store(
    path: str | Path | None,
    *,
    embedder: str | Embedder | None,
    dim: int | None,
    metric: Metric,
    dtype: Literal["float32", "float16"],
    factory: str,
    device: Device,
    exist_ok: bool,
) -> tuple[Store, Embedder | None]:
    """Create a store, or open one that was created with the same arguments; see `Index.create`."""
    if metric not in _METRICS or dtype not in _DTYPES:
        raise InvalidInputError(
            f"`metric` must be one of {_METRICS} and `dtype` of {_DTYPES}, got {shown(metric)} and {shown(dtype)}"
        )
    if path is not None and (Path(path) / NAME).is_file() and not is_bare(Path(path)):
        if not exist_ok:
            raise InvalidInputError(f"{path} holds an index already; open it, or give exist_ok=True")
        store, opened = open_store(path, embedder=embedder, device=device, read_only=False)
        asked: dict[str, object] = {"metric": metric, "dtype": dtype, "factory": factory}
        asked |= ({} if dim is None else {"dim": dim}) | ({"embedder": None} if embedder is None else {})
        _check_made_alike(store, asked)
        return store, opened
    loaded = None if embedder is None else load_embedder(embedder)
    if loaded is None and (type(dim) is not int or not 1 <= dim <= MAX_DIM):
        raise InvalidInputError(
            f"without an embedder `dim` must be a whole number from 1 to {MAX_DIM}, got {shown(dim)}"
        )
    size = loaded.dim if loaded else cast("int", dim)
    if dim not in {None, size}:
        raise InvalidInputError(f"`dim` is {dim}, but embedder {loaded and loaded.name!r} gives {size}")
    require("faiss")
    check_factory(factory, size, euclidean=metric == "l2")
    facts: Facts = {
        "dim": size,
        "dtype": dtype,
        "metric": metric,
        "factory": factory,
        "embedder": loaded.name if loaded else None,
        "fingerprint": loaded.fingerprint if loaded else None,
        "version": 0,
        "generation": 0,
        "rows": 0,
        "next_key": 0,
        "dead": rows_checksum(np.zeros(0, dtype=np.int64)),
        "indexed": {},
        "segment": None,
        "tuned": None,
    }
    cards = card_numbers(device)
    store = Store(_new_folder(path), read_only=False, durable=path is not None, cards=cards, facts=facts)
    if path is None:
        weakref.finalize(store, _remove, store.folder, os.getpid())
    return store, loaded


def open_store(
    path: str | Path, *, embedder: str | Embedder | None, device: Device, read_only: bool
) -> tuple[Store, Embedder | None]:
    """Open a store at its last commit; see `Index.open`."""
    folder = Path(path)
    if not (folder / NAME).is_file():
        how = "make one with Index.create (`ragkit index build`)"
        raise InvalidInputError(f"{folder} holds no index: there is no {NAME}; {how}")
    store = Store(folder.absolute(), read_only=read_only, durable=True, cards=card_numbers(device))
    try:
        return store, _same_embedder(store.state.facts, embedder)
    except BaseException:
        store.close()
        raise


def _remove(folder: Path, process: int) -> None:
    """Remove a temporary folder, unless this process was forked from its owner."""
    if os.getpid() == process:
        rmtree(folder, ignore_errors=True)


def _new_folder(path: str | Path | None) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="ragkit-")) if path is None else Path(path)
    if folder.exists() and (not folder.is_dir() or any(each.name not in _LEFT for each in folder.iterdir())):
        raise InvalidInputError(f"{folder} is not empty and holds no index; give another folder")
    make_folder(folder)
    return folder.absolute()


def _check_made_alike(store: Store, asked: Mapping[str, object]) -> None:
    """Close and reject a store that was created with other arguments."""
    for name, made in store.state.facts.items():
        if asked.get(name, made) != made:
            store.close()
            how = "open it, or make another"
            raise InvalidInputError(
                f"{store.folder} holds an index made with {name}={made!r}, not {asked[name]!r}; {how}"
            )


def _same_embedder(facts: Facts, embedder: str | Embedder | None) -> Embedder | None:
    if facts["embedder"] is None:
        if embedder is not None:
            raise InvalidInputError("this index was made without an embedder; open it without one")
        return None
    if embedder is None and not _CONTAINED.fullmatch(facts["embedder"]):  # the index may come from someone else
        warnings.warn(
            f"the index names the embedder {shown(facts['embedder'])}, which is loaded now; pass `embedder` to choose "
            "it yourself",
            RagkitWarning,
            stacklevel=4,
        )
    loaded = load_embedder(embedder or facts["embedder"])
    if loaded.fingerprint != facts["fingerprint"]:
        raise InvalidInputError(
            f"the index was made with embedder {facts['embedder']!r} ({facts['fingerprint']}), but {loaded.name!r} "
            f"gives other vectors ({loaded.fingerprint}); open it with the one that was used, or make a "
            "new index of its documents (`rebuild_index`, or `ragkit index rebuild`)"
        )
    return loaded
