"""Headers of GGUF files, which describe the contents and the expected length of a file."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO

from ragkit.errors import IntegrityError, InvalidInputError

_VERSIONS = (2, 3)
_SCALARS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))  # codes of `struct` by GGUF type
_STRING, _ARRAY = 8, 9
_MAX_DIMENSIONS = 8
# The reader of transformers needs hundreds of bytes per element. Large models have less than a tenth of these numbers.
_MAX_TENSORS, _MAX_KEYS, _MAX_ITEMS, _MAX_TEXT = 100_000, 10_000, 5_000_000, 64 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufHeader:
    """The metadata of a GGUF file.

    Attributes:
        facts: Numbers and strings by key, such as ``general.architecture``.
        lengths: Lengths of the arrays by key, such as ``tokenizer.ggml.tokens``.
        tensors: Number of tensors.
    """

    facts: dict[str, object]
    lengths: dict[str, int]
    tensors: int

    @classmethod
    def read(cls, path: Path, *, name: str, sizes: Mapping[int, tuple[int, int]]) -> GgufHeader:
        """Read the header of a file and check that the file has the length that the header specifies.

        Args:
            path: The file.
            name: Name of the file in messages.
            sizes: Number of elements and bytes per block, by GGML type.

        Returns:
            The header.

        Raises:
            InvalidInputError: If the file is not a GGUF file of a supported version.
            IntegrityError: If the file is truncated or damaged.
        """
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            _check_begin(file.read(8), name)
            try:
                header, end = _parse(_Source(file, size), sizes)
            except EOFError as error:
                raise IntegrityError(f"{name} is truncated: it ends within its header; {_AGAIN}") from error
            except ValueError as error:
                raise IntegrityError(f"{name} is damaged: {error}; {_AGAIN}") from error
        if size < end:
            raise IntegrityError(f"{name} is truncated: expected {end:,} bytes, got {size:,}; {_AGAIN}")
        return header


_AGAIN = "download or copy the file again"


def _check_begin(begin: bytes, name: str) -> None:
    if begin[:4] != b"GGUF":
        raise InvalidInputError(f"{name} is not a GGUF file: expected it to begin with b'GGUF', got {begin[:4]!r}")
    version = int.from_bytes(begin[4:], "little")
    if version not in _VERSIONS:
        raise InvalidInputError(
            f"{name} has GGUF version {version}, expected 2 or 3 in little-endian byte order; convert the model again "
            "with a current version of llama.cpp"
        )


class _Source:
    """A reader of numbers and strings that raises `EOFError` at the end of the file."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size, self.text = file, size, 0

    def number(self, code: str) -> int:
        """Read the next number, in a format of `struct`."""
        length = struct.calcsize(code)
        data = self.file.read(length)
        if len(data) < length:
            raise EOFError
        return struct.unpack(f"<{code}", data)[0]  # type: ignore[no-any-return]

    def skip(self, length: int) -> None:
        if length > self.size - self.file.tell():
            raise EOFError
        self.file.seek(length, 1)

    def string(self) -> str:
        length = self.number("Q")
        if length > self.size - self.file.tell():
            raise EOFError
        self.text += length
        if self.text > _MAX_TEXT:
            raise ValueError(f"its keys and texts have more than {_MAX_TEXT:,} bytes")
        return self.file.read(length).decode()  # a UnicodeDecodeError is a ValueError


def _parse(source: _Source, sizes: Mapping[int, tuple[int, int]]) -> tuple[GgufHeader, int]:
    """Parse the header after the magic number and version, and return the expected size of the file in bytes too."""
    tensors, keys = source.number("Q"), source.number("Q")
    if tensors > _MAX_TENSORS or keys > _MAX_KEYS:
        raise ValueError(
            f"it has {tensors:,} tensors and {keys:,} keys, the limits are {_MAX_TENSORS:,} and {_MAX_KEYS:,}"
        )
    facts: dict[str, object] = {}
    lengths: dict[str, int] = {}
    for _ in range(keys):
        key, kind = source.string(), source.number("I")
        if kind == _ARRAY:
            lengths[key] = _skip_array(source)
        else:
            facts[key] = _value(source, kind)
    end = 0
    for _ in range(tensors):
        end = max(end, _end_of_tensor(source, sizes))
    alignment = facts.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment < 1:
        raise ValueError(f"its alignment is {alignment!r}")
    start = -(-source.file.tell() // alignment) * alignment
    return GgufHeader(facts=facts, lengths=lengths, tensors=tensors), start + end


def _value(source: _Source, kind: int) -> object:
    if kind == _STRING:
        return source.string()
    if kind not in _SCALARS:
        raise ValueError(f"unknown type of metadata {kind}")
    return source.number(_SCALARS[kind])


def _skip_array(source: _Source) -> int:
    kind, length = source.number("I"), source.number("Q")
    if length > _MAX_ITEMS:
        raise ValueError(f"an array has {length:,} elements, the limit is {_MAX_ITEMS:,}")
    if kind == _STRING:
        for _ in range(length):
            source.skip(source.number("Q"))
    elif kind in _SCALARS:
        source.skip(length * struct.calcsize(_SCALARS[kind]))
    else:
        raise ValueError(f"unknown type of array elements {kind}")
    return length


def _end_of_tensor(source: _Source, sizes: Mapping[int, tuple[int, int]]) -> int:
    """Return the end of the next tensor's data, relative to the beginning of all tensor data."""
    name = source.string()
    dimensions = source.number("I")
    if dimensions > _MAX_DIMENSIONS:
        raise ValueError(f"tensor {name[:80]!r} has {dimensions:,} dimensions")
    elements = prod(source.number("Q") for _ in range(dimensions))
    kind, offset = source.number("I"), source.number("Q")
    if kind not in sizes:
        raise ValueError(f"tensor {name[:80]!r} has the unknown type {kind}")
    block, length = sizes[kind]
    return offset + -(-elements // block) * length
