"""Changes to stored files that keep their structure: values of JSON and SQLite, headers of arrays, checksums made anew.

Damage at random is noticed by a checksum. Whoever makes a folder on purpose writes a valid file with hostile values.
"""

from __future__ import annotations

import hashlib
import io
import json
import sqlite3
import struct
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from faults import DAMAGES

from ragkit._files import with_checksum, without_checksum

TRAP = "hostile_trap"  # a module that must never be imported
_DEEP: Any = 0
for _ in range(900):
    _DEEP = [_DEEP]
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63) - 1, 10**40, 0.5, -0.0, 1e308, 1e-320,
    float("nan"), float("inf"), float("-inf"), "", " ", "a", "\x00", "\x1b[2J\r\n", "\ud800", "x" * 300_000, "0" * 64,
    "../../../../outside", "/etc/passwd", "/outside", "~/outside", ".", "..", "file:///etc/passwd", "//host/share",
    TRAP, f"{TRAP}.run", f"{TRAP}:run", "os.system", "builtins.eval", "__class__", "{0.__class__}", "{{ 7 * 7 }}",
    "{% for a in range(10**10) %}a{% endfor %}", "(a+)+$", "$ref", "-inf", "1e999", "hash:1000000000", "float64",
    [], {}, [[]], [None], [1, "a", {}], ["a"] * 100_000, list(range(100_000)), _DEEP, {"": {"": {}}},
    {"a" * 100_000: 1}, {str(n): n for n in range(50_000)}, {"$ref": "#"}, {"__class__": "os.system"},
    {"auto_map": {"AutoModel": f"{TRAP}.Model"}},
)  # fmt: skip
EXTRA: tuple[tuple[str, Any], ...] = (
    ("auto_map", {"AutoConfig": f"{TRAP}.Config", "AutoModel": f"{TRAP}.Model", "AutoModelForCausalLM": f"{TRAP}.M"}),
    ("trust_remote_code", True),
    ("tokenizer_class", TRAP),
    ("custom_pipelines", {"x": {"impl": f"{TRAP}.Pipeline"}}),
    ("quantization_config", {"quant_method": "bitsandbytes", "load_in_4bit": True}),
    ("chat_template", "{% for a in range(10**10) %}a{% endfor %}"),
    ("__proto__", {}),
    ("unknown", 1),
)
LARGEST = 4_000_000  # bytes; larger JSON, such as tokenizers, would take most of the time


def mutate(path: Path, rng: Random) -> str:
    """Change a file on purpose, at one to three places.

    Args:
        path: The file.
        rng: Decides what changes.

    Returns:
        What was changed.
    """
    data = path.read_bytes()
    if data[:16] == b"SQLite format 3\0":
        return _change_cell(path, rng)
    if data[:2] == b"PK" or data[:6] == b"\x93NUMPY":
        return _change_array(path, rng)
    for change in (_change_json, _change_lines, _change_tensors):
        if len(data) <= LARGEST and (changed := change(data, rng)) is not None:
            path.write_bytes(changed[0])
            return changed[1]
    name = rng.choice(sorted(DAMAGES))
    path.write_bytes(DAMAGES[name](data, np.random.default_rng(rng.getrandbits(32))) if data else b"\x00")
    return name


def make_checksums_anew(folder: Path, old: bytes, new: bytes) -> None:
    """Replace the digests of a file that changed in all other files of its folder.

    Args:
        folder: The folder.
        old: The content of the file before.
        new: The content after.
    """
    hashes = [
        hashlib.sha256,
        hashlib.blake2b,
        hashlib.sha1,
        hashlib.md5,
        lambda data: hashlib.blake2b(data, digest_size=16),
    ]
    pairs = [(make(old).hexdigest(), make(new).hexdigest()) for make in hashes]
    for path in folder.rglob("*"):
        if not path.is_file() or path.is_symlink() or path.stat().st_size > LARGEST:
            continue
        content = changed = path.read_bytes()
        for before, after in pairs:
            for length in (128, 64, 40, 32, 16):
                changed = changed.replace(before[:length].encode(), after[:length].encode())
        if changed != content:
            path.write_bytes(_sealed(content, changed))


def _sealed(before: bytes, after: bytes) -> bytes:
    """Add the right checksum to an object that had one."""
    if without_checksum(before) is None:
        return after
    return with_checksum(json.dumps(_without(json.loads(after), "checksum"), separators=(",", ":"))).encode()


def _without(value: Any, name: str) -> Any:
    return {key: each for key, each in value.items() if key != name} if isinstance(value, dict) else value


def _change_json(data: bytes, rng: Random) -> tuple[bytes, str] | None:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict | list):
        return None
    sealed = isinstance(value, dict) and without_checksum(data) is not None
    changed, story = change_value(_without(value, "checksum") if sealed else value, rng)
    text = json.dumps(changed)
    if rng.random() < 0.03:
        text, story = rng.choice(("[" * 100_000, text[:-1], text + text, "{}", "[]", "null", '"a"', "")), "other JSON"
    if sealed and text.endswith("}") and len(text) > 2:
        text = with_checksum(text)
    return text.encode("utf-8", "surrogatepass"), story


def _change_lines(data: bytes, rng: Random) -> tuple[bytes, str] | None:
    lines = data.split(b"\n")
    places = [place for place, line in enumerate(lines) if line.startswith(b"{")]
    if not places:
        return None
    place = rng.choice(places)
    if (changed := _change_json(lines[place], rng)) is None:
        return None
    lines[place] = changed[0]
    if rng.random() < 0.1:
        lines[place : place + 1] = [lines[place]] * rng.choice((0, 2, 1000))
    return b"\n".join(lines), f"line {place}: {changed[1]}"


def _change_tensors(data: bytes, rng: Random) -> tuple[bytes, str] | None:
    """Change the header of a safetensors file, which is JSON after eight bytes with its length."""
    if len(data) < 10 or data[8:9] != b"{":
        return None
    length = struct.unpack("<Q", data[:8])[0]
    if (changed := _change_json(data[8 : 8 + length], rng)) is None:
        return None
    told = rng.choice((len(changed[0]),) * 9 + (2**62,))
    return struct.pack("<Q", told) + changed[0] + data[8 + length :], f"header: {changed[1]}"


def change_value(value: Any, rng: Random) -> tuple[Any, str]:
    """Change some places of a JSON value.

    Args:
        value: The value; it is not changed.
        rng: Decides the places and their new values.

    Returns:
        The new value, and what was changed.
    """
    value = json.loads(json.dumps(value))
    stories = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = list(_places(value))
        if not places:
            break
        parent, key, where = rng.choice(places)
        stories.append(f"{where} {_change_place(parent, key, places, rng)}")
    return value, "; ".join(stories)


def _change_place(parent: Any, key: Any, places: list[tuple[Any, Any, str]], rng: Random) -> str:
    kind = rng.choices(("value", "near", "removed", "other", "added", "repeated"), (8, 3, 2, 2, 2, 1))[0]
    old = parent[key]
    if kind == "removed":
        del parent[key]
    elif kind == "other":
        other, name, _ = rng.choice(places)
        parent[key] = json.loads(json.dumps(other[name])) if name in _keys(other) else None
    elif kind == "added" and isinstance(parent, dict):
        name, new = rng.choice(EXTRA)
        parent[name] = json.loads(json.dumps(new))
    elif kind == "repeated" and isinstance(old, list) and len(old) < 1000:
        parent[key] = old * rng.choice((2, 1000))
    elif kind == "near" and type(old) in {int, float}:
        parent[key] = rng.choice((old + 1, old - 1, -old, old * 2, old * 1000, old / 3, str(old)))
    else:
        parent[key] = rng.choice(VALUES)
    if key not in _keys(parent):
        return kind
    parent[key] = json.loads(json.dumps(parent[key]))  # a copy, as it may be changed at another place
    return f"{kind} {repr(parent[key])[:60]}"


def _keys(value: Any) -> Any:
    return value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()


def _places(value: Any, where: str = "", depth: int = 0) -> Any:
    if depth > 20:
        return
    keys = list(_keys(value))
    for key in keys if len(keys) < 40 else keys[:20] + keys[-20:]:
        yield value, key, f"{where}/{key}"
        yield from _places(value[key], f"{where}/{key}", depth + 1)


def _change_cell(path: Path, rng: Random) -> str:
    """Change a cell of a database; the value of a cell that holds JSON may also change inside."""
    with closing(sqlite3.connect(path)) as database:
        cells = []
        for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            columns = [row[1] for row in database.execute(f'PRAGMA table_info("{table}")')]
            rows = database.execute(f'SELECT * FROM "{table}" LIMIT 50').fetchall()  # noqa: S608
            cells += [(table, column, columns[0], row[0], row[at]) for row in rows for at, column in enumerate(columns)]
        if not cells:
            return "empty database"
        table, column, first, key, old = rng.choice(cells)
        new = _cell(old, rng)
        try:
            database.execute(f'UPDATE "{table}" SET "{column}" = ? WHERE "{first}" IS ?', (new, key))  # noqa: S608
            if rng.random() < 0.1:
                database.execute(f'DELETE FROM "{table}" WHERE "{first}" IS ?', (key,))  # noqa: S608
            database.commit()
        except (sqlite3.Error, OverflowError, UnicodeEncodeError) as error:
            return f"refused by SQLite ({error})"
    return f"{table}.{column} of {key!r}: {repr(new)[:60]}"


def _cell(old: Any, rng: Random) -> Any:
    if isinstance(old, str) and (changed := _change_json(old.encode("utf-8", "replace"), rng)) is not None:
        return changed[0].decode("utf-8", "replace")
    if isinstance(old, bytes) and old and rng.random() < 0.5:
        name = rng.choice(sorted(DAMAGES))
        return DAMAGES[name](old, np.random.default_rng(rng.getrandbits(32)))
    new = rng.choice(VALUES)
    return new if new is None or isinstance(new, int | float | str) else json.dumps(new)


def _change_array(path: Path, rng: Random) -> str:
    """Give an array another shape or type, whose header promises more or other data than there are."""
    shapes: tuple[tuple[int, ...], ...] = ((0,), (-1,), (2**40,), (2**31, 2**31), (1,) * 30, (3, 4), ())
    kinds = ("<f4", "<f8", "|O", "<U1000000", "|V8", "<i8", "<c16", "<M8[s]")
    shape, kind = rng.choice(shapes), rng.choice(kinds)
    header = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape!r}, }}".ljust(117) + "\n"
    made = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()
    story = f"{kind} of shape {shape}"
    if not zipfile.is_zipfile(path):
        path.write_bytes(made + path.read_bytes()[128:])
        return story
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice(sorted(parts)) if parts else "a.npy"
    change: Callable[[bytes], bytes] = rng.choice((lambda data: made + data[128:], lambda _: b"", _scaled(rng)))
    parts[name] = change(parts.get(name, b""))
    if rng.random() < 0.1:
        del parts[name]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for each, content in parts.items():
            archive.writestr(each, content)
    return f"{name}: {story} or other values"


def _scaled(rng: Random) -> Callable[[bytes], bytes]:
    """Return a function that replaces the numbers of an array by hostile ones."""
    factor = rng.choice((0.0, -1.0, 1e30, float("nan"), 1000.0))

    def change(data: bytes) -> bytes:
        try:
            array = np.load(io.BytesIO(data), allow_pickle=False)
            with np.errstate(all="ignore"):
                array = (array * factor).astype(array.dtype)
        except (ValueError, TypeError, EOFError):
            return data
        out = io.BytesIO()
        np.save(out, array)
        return out.getvalue()

    return change
