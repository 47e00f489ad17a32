"""FAISS factory strings: the automatic choice, and limits, as the string may come from someone else's folder."""

from __future__ import annotations

import math
import re

from ragkit._text import shown
from ragkit.errors import InvalidInputError

FLAT_UP_TO = 200_000  # rows up to which "auto" chooses exact search, which is then fast enough
_FACTORY, _LONGEST = re.compile(r"[\w,()+-]+", re.ASCII), 100
_MOST_LISTS, _MOST_LINKS, _LARGEST = 2**20, 1024, 2**29  # of lists, of links of a vector, and of numbers in a table


def choose_factory(factory: str, rows: int, *, dtype: str = "float32") -> str | None:
    """Return the FAISS factory string for a number of rows; None for exact search.

    ``"auto"`` chooses the precision of the stored vectors, and ``"cagra"`` is only supported on GPUs.
    """
    if factory == "auto":
        lists, codes = min(int(4 * math.sqrt(rows)), rows // 39), "SQfp16" if dtype == "float16" else "Flat"
        return None if rows <= FLAT_UP_TO else f"IVF{lists},{codes}"
    return None if factory.lower() in {"flat", "cagra"} else factory


def check_factory(factory: object, dim: int, *, euclidean: bool) -> None:
    """Check that FAISS can build an index, before documents are added.

    Raises:
        InvalidInputError: If the factory string is not valid, or not valid for vectors of this length.
    """
    import faiss

    if str(factory).lower() in {"auto", "flat", "cagra"}:
        return
    kinds = f'`factory` must be "auto", "flat", "cagra" or what FAISS can build over vectors of {dim}'
    if not isinstance(factory, str) or not _is_moderate(factory, dim):
        raise InvalidInputError(f"{kinds} without gigabytes of tables, got {shown(factory)}")
    try:
        faiss.index_factory(dim, factory, faiss.METRIC_L2 if euclidean else faiss.METRIC_INNER_PRODUCT)
    except (RuntimeError, TypeError) as error:
        raise InvalidInputError(f"{kinds}, got {shown(factory)}") from error


def _is_moderate(factory: str, dim: int) -> bool:
    """Return whether the tables of an index, which FAISS allocates before it has vectors, take a moderate size."""
    if len(factory) > _LONGEST or not _FACTORY.fullmatch(factory):
        return False
    numbers = [int(number) for number in re.findall(r"\d+", factory)]
    links = [int(number) for number in re.findall(r"(?:HNSW|NSG|NNDescent)\D*(\d+)", factory)]
    sizes = [dim * max(dim, *numbers, 0)] if re.search("PCA|OPQ|ITQ|RR", factory) else [0]
    for count, second, bits in re.findall(r"(\d+)(?:x(\d+))?x(\d+)", factory):
        many = int(count) * int(second or 1)
        sizes.append(many * dim << min(int(bits), 40))  # the codebooks of a quantizer
        if "IMI" in factory:
            sizes.append(1 << min(many * int(bits), 40))  # the lists of an inverted multi-index
    counts = 0 < min(numbers, default=1) <= max(numbers, default=1) <= _MOST_LISTS
    return counts and max(links, default=0) <= _MOST_LINKS and max(sizes) <= _LARGEST
