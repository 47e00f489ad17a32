"""Hostile filters, documents and folders of an index, and model folders of rerankers."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from attack_case import Attack

from ragkit import BM25Retriever, Document, Index
from ragkit.embedders._foreign_folders import check_folder
from ragkit.errors import RagkitError
from ragkit.index._checksum import checksum
from ragkit.retrievers._rerank import load_reranker
from ragkit.where import matches, parse_where

SMALL = {"a": 1, "t": "x", "list": [1, 2]}


# -- helpers -----------------------------------------------------------------------------------------------------------


def refused(what: str, call: Callable[[], object]) -> str:
    """Return "" if a call raises an error of ragkit whose message is short, otherwise what happened."""
    try:
        found = call()
    except RagkitError as error:
        try:
            return "" if len(str(error)) < 3000 else f"{what}: a message of {len(str(error))} characters"
        except Exception as broken:  # noqa: BLE001
            return f"{what}: the message cannot be shown ({broken!r})"
    except BaseException as error:  # noqa: BLE001 - whatever it is, the promise is broken
        return f"{what}: {type(error).__name__}: {str(error)[:200]}"
    return f"{what}: accepted, {str(found)[:100]}"


def first(problems: Iterator[str]) -> str:
    """Return the first problem, or ""."""
    return next(filter(None, problems), "")


def made(folder: Path, **options: Any) -> Path:
    """Make an index of 300 documents."""
    path = folder / "index"
    with Index.create(path, embedder="hash:32", **options) as index:
        index.add([Document(f"text {n}", id=f"d{n}", metadata={"n": n % 3}) for n in range(300)])
        index.index_field("n")
        index.delete(["d7"])
    return path


@contextmanager
def database(path: Path) -> Iterator[sqlite3.Connection]:
    """Change the database of an index behind its back."""
    with closing(sqlite3.connect(path / "index.sqlite")) as connection, connection:
        yield connection


def forge(path: Path, **changes: object) -> None:
    """Change the settings of an index, with the checksum that belongs to them."""
    with database(path) as connection:
        rows = connection.execute("SELECT name, value FROM facts_of_index")
        facts = {name: json.loads(value) for name, value in rows} | changes
        own = {name: value for name, value in facts.items() if name not in {"seal", "format"}}
        facts["seal"] = checksum(json.dumps(own, sort_keys=True).encode())
        connection.execute("DELETE FROM facts_of_index")
        connection.executemany(
            "INSERT INTO facts_of_index VALUES (?, ?)", [(name, json.dumps(value)) for name, value in facts.items()]
        )


def use(path: Path, *, read_only: bool = False) -> list[str]:
    """Open an index and use all of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Index.open(path, read_only=read_only, verify=False) as index:
            found = [hit.id for hit in index.search("text 5", k=3)]
            index.keys({"n": 1})
            index.get(["d1", "d2", "unknown"])
            index.get_vectors(["d1"])
            index.verify()
            if not read_only:
                index.add([Document("new", id="new", metadata={"n": 1})])
                index.delete(["d1"])
                index.compact()
            return found


# -- filters -----------------------------------------------------------------------------------------------------------


class Unprintable:
    """An object that cannot be printed."""

    def __repr__(self) -> str:
        raise ValueError("no")


class UnprintableText(str):
    """A text that cannot be printed."""

    __slots__ = ()

    def __repr__(self) -> str:
        raise ValueError("no")


class HostileInteger(int):
    """An integer whose methods fail."""

    def __int__(self) -> int:
        raise ValueError("no")

    def __ge__(self, other: object) -> bool:
        raise ValueError("no")


class HostileFloat(float):
    """A float whose methods fail."""

    def __ne__(self, other: object) -> bool:
        raise ValueError("no")

    __hash__ = None  # type: ignore[assignment]


def nested(depth: int, wrap: Callable[[object], object]) -> object:
    """Return a value inside many others."""
    value: object = 1
    for _ in range(depth):
        value = wrap(value)
    return value


def filters_that_cannot_be_printed(_: Path) -> str:
    """Operands, names and operators without a representation."""
    big, bad, text, deep = 10**5000, Unprintable(), UnprintableText("$x"), nested(100_000, lambda inner: [inner])
    loop: list[object] = []
    loop.append(loop)
    filters: list[object] = [{"a": bad}, {"a": {"$in": [bad]}}, {"a": {"$exists": bad}}, {bad: 1}, {"a": {bad: 1}}]
    filters += [{"$or": bad}, {"a": {"$exists": big}}, {big: 1}, {"$or": big}, {"a": {"$eq": [big]}}]
    filters += [{text: 1}, {"a": {text: 1}}, {"a": {"$exists": text}}, {"a": deep}, {"a": loop}, {"$or": deep}]
    filters += [{"a": {"$in": [deep]}}, nested(100_000, lambda inner: {"$not": inner}), {"a": HostileInteger(5)}]
    filters += [{"a": HostileFloat(5)}, {"a": b"1"}, {"a": "\ud800"}, {"\udfff": 1}, {"a": float("nan")}, {"a": 1j}]
    filters += [{"a": {"$" + "b" * 10**7: 1}}, {"$" + "b" * 10**7: 1}, {"a": {"$exists": "b" * 10**7}}]
    with Index.create(None, embedder="hash:16") as index:
        index.add([Document("x", id="x", metadata=SMALL)])
        return first(
            refused(f"filter {number} by {name}", lambda where=where, call=call: call(where))
            for number, where in enumerate(filters)
            for name, call in (("parsing", parse_where), ("keys", index.keys))
        )


def large_filters(_: Path) -> str:
    """Filters that are large but valid give the right answer."""
    rows: list[dict[str, object]] = [{"a": n, "t": str(n)} for n in range(50)]
    cases: list[tuple[dict[str, object], set[int]]] = [
        ({"a": {"$in": list(range(25, 10**6))}}, set(range(25, 50))),
        ({"t": {"$in": [str(n) for n in range(10**5)]}}, set(range(50))),
        ({"$or": [{"t": {"$gt": str(n)}} for n in range(9, 10_000)]}, {n for n in range(50) if str(n) > "10"}),
        ({"$or": [{f"f{n}": n} for n in range(10_000)]}, set()),
        ({"a": 10**5000}, set()),
        ({"a": {"$lt": 10**5000}}, set(range(50))),
        ({"t": "x" * 10**7}, set()),
    ]
    with Index.create(None, embedder=None, dim=2) as index:
        documents = [Document(str(n), id=str(n), metadata=row) for n, row in enumerate(rows)]
        index.add(documents, vectors=np.ones((50, 2), dtype=np.float32))
        index.index_field("a")
        for number, (where, expected) in enumerate(cases):
            condition = parse_where(where)
            if {n for n, row in enumerate(rows) if matches(condition, row)} != expected:
                return f"filter {number} matches other rows"
            if set(index.keys(where).tolist()) != expected:
                return f"filter {number} matches other rows of an index"
    return ""


def patterns_are_text(_: Path) -> str:
    """Operands that look like regular expressions, wildcards or SQL match only themselves."""
    values = ["(a+)+$", "%", "_", "' OR 1=1 --", "*", ".*", "a\0b", "[a]", "x'; DROP TABLE documents; --"]
    with Index.create(None, embedder="hash:16") as index:
        index.add([Document(value, id=value, metadata={"v": value}) for value in values])
        for indexed in (False, True):
            if indexed:
                index.index_field("v")
            for value in values:
                found = [each.id for each in index.get_by_keys(index.keys({"v": value})) if each]
                if found != [value]:
                    return f"{value!r} matches {found}"
                if len(index.keys({value: 1})):
                    return f"the field {value!r} matches"
    return ""


# -- documents and arguments -------------------------------------------------------------------------------------------


def hostile_documents(_: Path) -> str:
    """Metadata, ids and objects that cannot be stored, and messages about them."""
    big, deep = 10**5000, nested(100_000, lambda inner: [inner])
    metadata: list[object] = [{"x": big}, {big: 1}, {"x": [big]}, {"x": deep}, {"x": Unprintable()}, {Unprintable(): 1}]
    metadata += [{"x": float("nan")}, {"x": "\ud800"}, {"x": b""}, {"k" * 10**7: b""}, {UnprintableText("k"): b""}]

    class Failing:
        page_content = "x"

        @property
        def metadata(self) -> dict[str, object]:
            raise ValueError("no")

    given: list[Any] = [Document("x", metadata=each) for each in metadata]  # type: ignore[arg-type]
    given += [Failing(), Unprintable(), b"x", None, 5, Document("\ud800"), Document("x", id="\ud800")]
    with Index.create(None, embedder="hash:16") as index:
        problem = first(
            refused(f"document {number}", lambda each=each: index.add([each])) for number, each in enumerate(given)
        )
        return problem or ("" if not len(index) else "a document was added")


def hostile_numbers(_: Path) -> str:
    """Numbers of results, keys and dimensions that do not fit into memory."""
    with Index.create(None, embedder="hash:16") as index:
        index.add(["a", "b"])
        calls: dict[str, Callable[[], object]] = {
            "k": lambda: index.search("a", 10**5000),
            "k of vectors": lambda: index.search_vectors(np.ones((1, 16)), 2**40),
            "keys": lambda: index.get_by_keys([2**63]),
            "batch": lambda: index.add(["a"], batch_size=2**70),
            "field": lambda: index.index_field(10**5000),  # type: ignore[arg-type]
            "dim": lambda: Index.create(None, embedder=None, dim=2**31),
            "tune": lambda: index.tune(k=-(10**5000)),
        }
        if len(index.search("a", 2**30)) != 2:
            return "a search for more than there is finds something else"
        return first(refused(name, call) for name, call in calls.items())


# -- folders -----------------------------------------------------------------------------------------------------------


def links_are_not_followed(folder: Path) -> str:
    """Links in a folder would let opening it truncate or read other files."""
    path, mine = made(folder), folder / "mine.txt"
    for name in ("writer.lock", "vectors-0.bin", "keys-0.bin", "ids-0.bin", "index.sqlite", "index.sqlite-wal"):
        kept = path.rename(folder / "kept")
        os.system(f"cp -r {kept} {path}")  # noqa: S605 - paths of our own
        mine.write_bytes(b"important " * 100_000)
        (path / name).unlink(missing_ok=True)
        (path / name).symlink_to(mine)
        problem = refused(name, partial(use, path))
        if problem or mine.stat().st_size != 1_000_000:
            return problem or f"opening an index changed the target of {name}"
        os.system(f"rm -r {path}")  # noqa: S605
        kept.rename(path)
    return ""


def planted_partial_file(folder: Path) -> str:
    """A link with the name of a file that is about to be written does not redirect the writing."""
    path, mine = made(folder, factory="IVF4,Flat"), folder / "mine.txt"
    mine.write_text("important")
    with Index.open(path) as index:
        for name in ("segment-1.faiss.partial", "segment-1.faiss", "vectors-1.bin", "keys-1.bin"):
            (path / name).symlink_to(mine)
        index.compact()
        index.verify()
    return "" if mine.read_text() == "important" else "a file outside the folder was written"


def forged_rollback_journal(folder: Path) -> str:
    """SQLite removes the file that a rollback journal names as its super-journal."""
    path, mine = made(folder), folder / "mine.txt"
    mine.write_text("important")
    with database(path) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    name = str(mine).encode()
    magic = b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7"
    header = magic + bytes(8) + b"".join(number.to_bytes(4, "big") for number in (1, 512, 4096))
    page = (0x40000000 // 4096 + 1).to_bytes(4, "big")
    end = page + name + len(name).to_bytes(4, "big") + sum(name).to_bytes(4, "big") + magic
    (path / "index.sqlite-journal").write_bytes(header.ljust(512, b"\0") + end)
    problem = first(
        refused(str(call), call)
        for call in (lambda: use(path), lambda: Index.create(path, embedder="hash:32", exist_ok=True))
    )
    return problem or ("" if mine.exists() else "opening an index removed another file")


SCHEMAS = {
    "trigger": "CREATE TRIGGER t AFTER INSERT ON documents BEGIN DELETE FROM documents; END",
    "view": "ALTER TABLE documents RENAME TO d; CREATE VIEW documents AS WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL "
    "SELECT x FROM r) SELECT x AS key, 'a' AS id, x AS row, x'00' AS hash, 1 AS checksum, '{}' AS metadata, 't' AS text"
    " FROM r",
    "settings in a view": "ALTER TABLE facts_of_index RENAME TO f; CREATE VIEW facts_of_index AS WITH RECURSIVE r(x) AS"
    " (SELECT 1 UNION ALL SELECT x FROM r) SELECT * FROM f, r",
    "virtual table": "CREATE VIRTUAL TABLE t USING fts5(a)",
    "index with an expression": "CREATE INDEX e ON documents (abs(row))",
    "generated column": "ALTER TABLE documents ADD COLUMN g AS (abs(row))",
    "other table": "CREATE TABLE other (a)",
}


def hostile_schemas(folder: Path) -> str:
    """Views, triggers and virtual tables, which would run foreign SQL."""
    for name, statements in SCHEMAS.items():
        part = folder / name.replace(" ", "-")
        part.mkdir()
        path = made(part)
        with closing(sqlite3.connect(path / "index.sqlite")) as connection:
            connection.executescript(statements)
        problem = first(refused(f"{name}, {mode}", partial(use, path, read_only=mode)) for mode in (True, False))
        if problem:
            return problem
    return ""


def settings_that_lie(folder: Path) -> str:
    """Settings with a valid checksum and values that an index cannot have."""
    changes: dict[str, object] = {
        "dim": [2**31, 2**63, 0, -1, "8", 1.5, None, 33],
        "rows": [2**39, 10**12, 301, 10, -1, "300", True],
        "next_key": [-1, "0", 2**64],
        "generation": [-1, 1, "../../other", 2**70],
        "dtype": ["object", "float64", "../x", None],
        "metric": ["other", None],
        "factory": ["x" * 10**5, None, 5],
        "embedder": ["hash:64", "hash:1000000000000", 5, "x" * 10**6],
        "indexed": [None, {"n": "1"}, {"n": 1, "other": 2}, ["n"]],
        "dead": [1, None],
        "segment": [{"file": "../x", "checksum": "0", "rows": 10**9, "factory": "Flat", "settings": {}}, 5, {}],
        "tuned": [5, {"recall": "x"}],
        "version": ["x", -1, 2**63],
        "extra": [1],
    }
    path = made(folder)
    with database(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = (path / "index.sqlite").read_bytes()
    for name, values in changes.items():
        for value in values:  # type: ignore[attr-defined]
            (path / "index.sqlite").write_bytes(content)
            forge(path, **{name: value})
            if name == "rows" and value == 2**39:  # a sparse file has any length
                for file in path.glob("*.bin"):
                    os.truncate(file, value * 4)
            problem = refused(f"{name} = {str(value)[:40]}", partial(use, path, read_only=True))
            if problem:
                return problem
    return ""


ROWS = [
    "UPDATE documents SET metadata = '5', checksum = ? WHERE key = 1",
    "UPDATE documents SET metadata = '{}},{{}', checksum = ? WHERE key = 1",
    "UPDATE documents SET metadata = '[]', checksum = ? WHERE key = 1",
    "UPDATE documents SET row = 10000000, checksum = ? WHERE key = 1",
    "UPDATE documents SET row = -5, checksum = ? WHERE key = 1",
    "UPDATE documents SET id = 5, checksum = ? WHERE key = 1",
    "UPDATE documents SET text = x'ff', checksum = ? WHERE key = 1",
    "DELETE FROM blocks",
    "UPDATE blocks SET checksum = 1",
    "UPDATE blocks SET checksum = 'x'",
    "UPDATE blocks SET checksum = 9223372036854775807",
]


def forged_rows(folder: Path) -> str:
    """Documents and checksums of blocks that an index does not write, with valid checksums of documents."""
    path = made(folder)
    with database(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = (path / "index.sqlite").read_bytes()
    for statement in ROWS:
        (path / "index.sqlite").write_bytes(content)
        with database(path) as connection:
            connection.execute(statement, [0] * statement.count("?"))
            if "?" in statement:
                key, name, row, digest, _, metadata, _ = connection.execute(
                    "SELECT * FROM documents WHERE key = 1"
                ).fetchone()
                own = checksum(digest + f"{key} {row} {name}\0{metadata}".encode())
                connection.execute("UPDATE documents SET checksum = ? WHERE key = 1", [own])
        problem = refused(statement, partial(use, path, read_only=True))
        if problem:
            return problem
    return ""


def crafted_cache_files(folder: Path) -> str:
    """A FAISS file that the database does not record is never parsed, and searches stay exact."""
    path = made(folder, factory="IVF4,Flat")
    with Index.open(path) as index:
        right = [hit.id for hit in index.search("text 5", k=5)]
        index.compact()
    content = (path / "segment-1.faiss").read_bytes()
    for crafted in (
        b"",
        b"IwFl" + b"\xff" * 200,
        content[:-9],
        bytes([content[0] ^ 1]) + content[1:],
        os.urandom(10**6),
    ):
        (path / "segment-1.faiss").write_bytes(crafted)
        with warnings.catch_warnings(record=True) as caught, Index.open(path, read_only=True) as index:
            warnings.simplefilter("always")
            if [hit.id for hit in index.search("text 5", k=5)] != right or index.stats().factory != "flat":
                return "a crafted file was used"
            if not any("compact" in str(each.message) for each in caught):
                return "a crafted file was ignored without a warning"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Index.open(path) as index:
            index.compact()
            return "" if index.stats().factory == "IVF4,Flat" else "the cache was not rebuilt"


def forged_cache_records(folder: Path) -> str:
    """A valid FAISS file of another index, recorded in the database, gives no row that does not exist."""
    path = made(folder, factory="IVF4,Flat")
    with Index.open(path) as index:
        index.compact()
    with database(path) as connection:
        told = json.loads(connection.execute("SELECT value FROM facts_of_index WHERE name = 'segment'").fetchone()[0])
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = (path / "index.sqlite").read_bytes()
    changes = [{"rows": 200}, {"rows": 10**9}, {"settings": {"nprobe": 2**31}}, {"settings": {"sel": 1}}]
    changes += [{"settings": {"nprobe": -1}}, {"settings": {"nprobe": "x"}}, {"checksum": 5}]
    for change in changes:
        (path / "index.sqlite").write_bytes(content)
        forge(path, segment=told | change)
        try:
            use(path, read_only=True)
        except RagkitError:
            continue
        return f"{change} was accepted"
    return ""


FACTORIES = [
    "IVF1000000000,Flat",
    "HNSW1000000000",
    "PQ4x30",
    "RQ64x24",
    "IMI2x20,Flat",
    "PCA1000000000,Flat",
    "IVF0,Flat",
]
FACTORIES += ["Pad1000000000,Flat", "(" * 10**6, "IVF1(" * 100, "Flat\0", "RQ1x40", "LSQ1000x16", "\ud800", "HNSW0"]


def gigantic_factories(folder: Path) -> str:
    """Factory strings whose tables would take gigabytes."""
    problem = first(
        refused(each[:40], lambda each=each: Index.create(None, embedder="hash:32", factory=each)) for each in FACTORIES
    )
    path = made(folder)
    forge(path, factory="IVF1000000000,Flat")
    with Index.open(path) as index:
        return problem or refused("compact", index.compact)


def unnamed_embedder(folder: Path) -> str:
    """An embedder that only the folder names is shown before it is loaded."""
    path = made(folder)
    for spec in ("st:/somewhere/else", "st:someone/model", "onnx:st:someone/model"):
        forge(path, embedder=spec, fingerprint=f"{spec}:float32")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with suppress(RagkitError, OSError):
                Index.open(path, read_only=True).close()
        if not any(spec in str(each.message) for each in caught):
            return f"{spec} was loaded without being shown"
    return ""


def private_files(folder: Path) -> str:
    """Nobody else can read a new index, whatever the umask is."""
    before = os.umask(0)
    try:
        path = made(folder, factory="IVF4,Flat")
        with Index.open(path) as index:
            BM25Retriever(index).retrieve("text")
            index.compact()
            modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in (path, *path.iterdir())}
    finally:
        os.umask(before)
    open_ = {name: oct(mode) for name, mode in modes.items() if mode & 0o077}
    return f"others can read {open_}" if open_ else ""


def forged_bm25_cache(folder: Path) -> str:
    """A cache of posting lists with a valid checksum and indices outside its arrays is rebuilt."""
    path = made(folder)
    with Index.open(path) as index:
        right = [hit.id for hit in BM25Retriever(index).retrieve("text 5", k=3)]
        BM25Retriever(index).save()
    file = next(path.glob("bm25-*.npz"))
    with np.load(file) as stored:
        arrays = dict(stored)
    right_lists = {name for name in arrays if name.startswith("lists_") and name != "lists_vocabulary"}
    for name in sorted(right_lists | {"keys"}):
        held = arrays[name]
        changed = [np.full(held.shape, 10**6).astype(held.dtype), (-held.astype(np.int64) - 5).astype(held.dtype)]
        for value in (*changed, held[:1], held.astype(np.float64), np.ones((2, 2), held.dtype)):
            np.savez(file, **arrays | {name: value})
            with Index.open(path, read_only=True) as index:
                found = BM25Retriever(index).retrieve("text 5", k=3)  # a forged weight may change the order
            if len(found) != len(right):
                return f"{name} changed the answer"
    return ""


# -- model folders -----------------------------------------------------------------------------------------------------


def model_folder(folder: Path, files: dict[str, object]) -> Path:
    """Write the configuration files of a model."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


BERT = {"model_type": "bert", "architectures": ["BertForSequenceClassification"]}
TRANSFORMER = {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}
MODELS: dict[str, dict[str, object]] = {
    "activation function that is called": {
        "config.json": BERT | {"sentence_transformers": {"activation_fn": "torch.utils.collect_env.main"}}
    },
    "activation function of older versions": {
        "config.json": BERT | {"sbert_ce_default_activation_function": "torch.utils.collect_env.main"}
    },
    "activation function of a dense layer": {
        "modules.json": [TRANSFORMER, TRANSFORMER | {"path": "1", "type": "sentence_transformers.models.Dense"}],
        "1/config.json": {"activation_function": "torch.hub.load"},
    },
    "class of the operating system": {"modules.json": [TRANSFORMER | {"type": "os.system"}]},
    "object that a module imports": {
        "modules.json": [TRANSFORMER | {"type": "sentence_transformers.util.misc.importlib"}]
    },
    "class in a file": {"modules.json": [TRANSFORMER | {"type": "modeling_own.Own"}]},
    "class of a route": {
        "modules.json": [TRANSFORMER | {"type": "sentence_transformers.models.Router"}],
        "router_config.json": {"types": {"a": "os.system"}},
    },
    "path outside": {"modules.json": [TRANSFORMER | {"path": "../../other"}]},
    "absolute path": {"modules.json": [TRANSFORMER | {"path": "/etc"}]},
    "not a list": {"modules.json": {"type": "x"}},
    "modules inside each other": {"modules.json": [TRANSFORMER | {"path": 5}]},
    "remote code": {"sentence_bert_config.json": {"model_args": {"trust_remote_code": True}}},
    "remote code at the top": {"config.json": BERT | {"trust_remote_code": True}},
    "code of its authors": {"config.json": {"model_type": "own", "auto_map": {"AutoModel": "modeling_own.Own"}}},
    "code of someone else": {"config.json": {"model_type": ["x"], "auto_map": {"AutoModel": "a/b--modeling_own.Own"}}},
    "arguments of the model": {"sentence_bert_config.json": {"model_kwargs": {"state_dict": {}}}},
    "another file as model": {"sentence_bert_config.json": {"config_kwargs": {"gguf_file": "/etc/passwd"}}},
    "arguments that are not a mapping": {"sentence_bert_config.json": {"config_args": "x"}},
    "attention from the hub": {"config.json": BERT | {"attn_implementation": "someone/kernels"}},
    "attention from the hub of a part": {"config.json": BERT | {"_attn_implementation": {"text": "someone/kernels"}}},
    "method of the model": {"sentence_bert_config.json": {"modality_config": {"text": {"method": "push_to_hub"}}}},
    "tokenizer class": {"config.json": {"tokenizer_class": "os.system"}},
    "base model of an adapter": {"adapter_config.json": {"base_model_name_or_path": "someone/model"}},
    "prompts that are numbers": {"config_sentence_transformers.json": {"prompts": {"query": 5}}},
    "prompts that are no text": {"config_sentence_transformers.json": {"prompts": {"query": "\ud800"}}},
    "prompts that are a list": {"config_sentence_transformers.json": {"prompts": ["x"]}},
    "name of a prompt": {"config_sentence_transformers.json": {"default_prompt_name": {"a": 1}}},
    "not JSON": {"config.json": "{" * 10},
    "deep JSON": {"config.json": "[" * 100_000},
    "long numbers": {"config.json": '{"a": ' + "9" * 10_000 + "}"},
}


def hostile_model_folders(folder: Path) -> str:
    """Configuration files of embedders and rerankers that name code, callables or other models."""
    for number, (name, files) in enumerate(MODELS.items()):
        own = model_folder(folder / str(number), files)
        if problem := refused(name, lambda own=own: check_folder(own)):
            return problem
    return ""


def reranker_that_calls_pip(folder: Path) -> str:
    """The reranker checks a folder before sentence-transformers reads it."""
    own = model_folder(folder / "model", MODELS["activation function that is called"])
    started = time.perf_counter()
    problem = refused("cross-encoder", lambda: load_reranker(f"cross-encoder:{own}"))
    return problem or ("" if time.perf_counter() - started < 20 else "something else was loaded first")


PRINT = "filters, documents and arguments produce a value or a RagkitError, with a short message"
FOREIGN = "a folder of an index from someone else gives right answers or an error, in bounded time and memory"
ATTACKS = [
    Attack("filters that cannot be printed", PRINT, filters_that_cannot_be_printed),
    Attack("large filters", "large filters match what they say", large_filters),
    Attack("operands that look like patterns", "a filter matches only values that are equal", patterns_are_text),
    Attack("documents that cannot be stored", PRINT, hostile_documents),
    Attack("numbers that do not fit into memory", PRINT, hostile_numbers),
    Attack("links in a folder", "an index reads and writes only regular files in its folder", links_are_not_followed),
    Attack("links with the names of new files", "an index writes only into its folder", planted_partial_file),
    Attack("forged rollback journal", "opening an index removes no other file", forged_rollback_journal),
    Attack("views and triggers", "the database of an index runs no SQL of its own", hostile_schemas),
    Attack("settings that lie", FOREIGN, settings_that_lie),
    Attack("forged rows", FOREIGN, forged_rows),
    Attack(
        "crafted FAISS files", "a FAISS file that the database does not record is never parsed", crafted_cache_files
    ),
    Attack("forged records of FAISS files", FOREIGN, forged_cache_records),
    Attack("gigantic factories", FOREIGN, gigantic_factories),
    Attack("embedder of the folder", "an embedder that only the folder names is shown", unnamed_embedder),
    Attack("permissions", "a new index is private", private_files),
    Attack("forged posting lists", FOREIGN, forged_bm25_cache),
    Attack("hostile model folders", "a model folder names no code and no other model", hostile_model_folders),
    Attack("reranker that calls pip", "a reranker checks a folder before it is read", reranker_that_calls_pip),
]
