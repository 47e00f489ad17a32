"""Crafted folders of LangChain's FAISS store, whose pickle files try to run code, or to use all time or memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from attack_case import Attack

# Reads each file, with 30 s of processor time and 1.5 GiB of memory for all of them.
READ = """
import json, resource, sys, time
from pathlib import Path
import faiss, numpy as np
from ragkit.errors import RagkitError
from ragkit.index import Index
from ragkit_pipelines.langchain.import_faiss import import_faiss
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
for path in sorted(Path(sys.argv[1]).iterdir()):
    flat = faiss.IndexFlatL2(2)
    flat.add(np.ones((1, 2), dtype=np.float32))
    faiss.write_index(flat, str(path / "index.faiss"))
    start = time.process_time()
    try:
        import_faiss(path, path / "new")
        outcome = "imported"
    except RagkitError:
        outcome = "rejected"
    except BaseException as error:
        outcome = type(error).__name__ + ": " + str(error)[:200]
    print(json.dumps([path.name, outcome, time.process_time() - start]), flush=True)
(line,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]  # of this program only
peak = int(line.split()[1]) / 1024
print(json.dumps(["all", f"used {peak:.0f} MiB" if peak > 700 else "", 0]))
"""
SECONDS = 3.0  # for each file, of at most a few megabytes


def text(value: str) -> bytes:
    """Return the instructions that push a text."""
    encoded = value.encode("utf-8", "surrogatepass")
    return b"X" + len(encoded).to_bytes(4, "little") + encoded


def integer(value: int) -> bytes:
    """Return the instructions that push an integer of any size."""
    encoded = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8b" + len(encoded).to_bytes(4, "little") + encoded


def store(*, metadata: bytes = b"}", name: bytes = text("a"), row: bytes = b"K\0", before: bytes = b"") -> bytes:
    """Return a pickle of one document, in which the parts are the instructions that push them."""
    document = b"clangchain_core.documents.base\nDocument\n)\x81}(" + text("__dict__")
    document += b"}(" + text("page_content") + text("dim the lamp") + text("metadata") + metadata + b"uub"
    docstore = b"clangchain_community.docstore.in_memory\nInMemoryDocstore\n)\x81}(" + text("_dict")
    return b"\x80\x04" + before + docstore + b"}(" + name + document + b"uub}(" + row + name + b"u\x86."


def field(value: bytes) -> bytes:
    """Return metadata with one field."""
    return b"}(" + text("x") + value + b"u"


LAUGHS = b")" + b"2\x86" * 100  # a pair of two times the same pair of two times the same pair …
LISTS = b"]q\5" + b"0(h\5h\5lq\5" * 100  # the same with lists
DEEP = b")" + b"\x85" * 1_000_000
DOCUMENT = b"clangchain_core.documents.base\nDocument\n"
SETS = b"c__builtin__\nset\n"
COLLIDING = b"}(" + b"".join(integer(number * (2**61 - 1)) + b"N" for number in range(60_000)) + b"u"

HANGS = {
    "an id that is a list": store(name=b"]"),
    "an id of shared tuples": store(name=LAUGHS),
    "a row of shared tuples": store(row=LAUGHS),
    "a set of shared tuples": store(before=b"\x8f(" + LAUGHS + b"\x900"),
    "a frozen set of shared tuples": store(before=b"(" + LAUGHS + b"\x910"),
    "a key of shared tuples": store(before=b"}" + LAUGHS + b"Ns0"),
    "a deep id": store(name=DEEP),
    "a deep key": store(before=b"}" + DEEP + b"Ns0"),
    "a row that is a huge integer": store(row=integer(10**100_000)),
    "an id that is a huge integer": store(name=integer(10**100_000)),
    "a decimal number of a million digits": store(before=b"L" + b"9" * 10**6 + b"L\n0"),
    "keys with the same hash": store(before=COLLIDING + b"0"),
    "a row that is True": store(row=b"\x88"),
    "rows and ids that are classes": store(name=DOCUMENT, row=DOCUMENT),
}
METADATA = {
    "shared tuples": LAUGHS, "shared lists": LISTS, "a million levels": DEEP, "itself": b"]q\0h\0a",
    "2,000 lists": b"]q\5" + b"0(h\5lq\5" * 2000, "a huge integer": integer(10**5000),
    "a large integer": integer(2**70),
    "not a number": b"G\x7f\xf8" + b"\0" * 6, "infinity": b"G\x7f\xf0" + b"\0" * 6, "bytes": b"C\3abc",
    "a set": b"\x8f",
    "a class": DOCUMENT, "a document": DOCUMENT + b")\x81", "a lone surrogate": text("\ud800"), "NUL": text("\0"),
    "a mapping with other keys": b"}(NNK\1Nu",
}  # fmt: skip
COPIES = store(before=b"]q\1(" + b"N" * 400_000 + b"e0(" + (SETS + b"h\1\x85R") * 2000 + b"10")
MEMORY = {
    "4 GB of zeros": store(before=b"\x96" + (2**32).to_bytes(8, "little") + b"abc0"),
    "20 million lists": store(before=b"(" + b"]" * 20_000_000 + b"10"),
    "copies of a large list": COPIES,
    "a text of 4 GB": store(before=b"\x8d" + (2**32).to_bytes(8, "little") + b"abc0"),
    "a frame of 4 GB": store(before=b"\x95" + (2**32).to_bytes(8, "little") + b"abc0"),
    "a memo of 2**31": store(before=b"Nr\xff\xff\xff\x7f0"),
}
CODE = {
    "a function": store(before=b"cos\nsystem\n(S'touch pwned'\ntR0"),
    "a method of a class": store(before=b"\x80\x04cbuiltins\nset.__class__.__subclasses__\n0"),
    "a class with other methods": store(before=DOCUMENT + b"N}(" + text("__class__") + SETS + b"u\x86b0"),
    "a class that is changed": store(before=DOCUMENT + b"N}(" + text("__dict__") + b"Nu\x86b0"),
    "an extension": store(before=b"\x82\x010"),
    "a persistent id": store(before=b"Pabc\n0"),
}


def read_all(cases: dict[str, bytes], *, may_succeed: bool, folder: Path) -> str:
    """Import all files in another process; each must be rejected, or also imported if that is permitted."""
    for name, content in cases.items():
        (folder / "old" / name).mkdir(parents=True)
        (folder / "old" / name / "index.pkl").write_bytes(content)
    command = [sys.executable, "-c", READ, str(folder / "old")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    for name, outcome, seconds in lines:
        permitted = {"", "rejected", "imported"} if may_succeed else {"", "rejected"}
        if outcome not in permitted or seconds > SECONDS:
            return f"{name}: {outcome} after {seconds:.1f} s"
    if len(lines) <= len(cases):
        return f"the process ended with {done.returncode} after {lines[-1:]}: {done.stderr[-400:]}"
    return "code was executed" if (folder / "pwned").exists() else ""


BOUNDED = "A crafted LangChain folder is an error within time and memory that are proportional to its size."
ATTACKS = [
    Attack("values that hang", BOUNDED, lambda folder: read_all(HANGS, may_succeed=False, folder=folder), seconds=90),
    Attack("hostile metadata", BOUNDED, lambda folder: read_all(
        {name: store(metadata=field(value)) for name, value in METADATA.items()}, may_succeed=True, folder=folder)),
    Attack("memory", BOUNDED, lambda folder: read_all(MEMORY, may_succeed=True, folder=folder), seconds=90, slow=True),
    Attack("code", "No code in a pickle file is executed.",
           lambda folder: read_all(CODE, may_succeed=False, folder=folder)),
]  # fmt: skip
