"""Checking vectors from users and converting them to the form in which an index stores and compares them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ragkit._pairwise import lengths
from ragkit.errors import InvalidInputError
from ragkit.index._snapshot import Facts

_HALF = float(np.finfo(np.float16).max)
_LENGTH = 1e-6  # tolerance for the length of unit vectors


def storable_vectors(vectors: NDArray[np.floating], name: str, facts: Facts) -> NDArray[np.float32]:
    """Return `checked_vectors` that fit into the data type of the index.

    Raises:
        InvalidInputError: As `checked_vectors`, and if a number is too large for half precision.
    """
    ready = checked_vectors(vectors, name, facts)
    half = facts["dtype"] == "float16" and facts["metric"] != "cosine"
    if half and max(ready.max(initial=0), -ready.min(initial=0)) > _HALF:
        bad = np.flatnonzero((np.abs(ready) > _HALF).any(axis=1))
        raise InvalidInputError(
            f"`{name}`[{int(bad[0])}] holds a number above {_HALF:.0f}, which float16 cannot hold; scale them, "
            'or make the index with dtype="float32"'
        )
    return ready


def checked_vectors(vectors: NDArray[np.floating], name: str, facts: Facts) -> NDArray[np.float32]:
    """Return float[n, dim] as f32[n, dim] for comparison with the vectors of the index.

    Under the metric ``"cosine"`` they are normalised to length 1; zero vectors stay zero. ``name`` is the argument in
    error messages.

    Raises:
        InvalidInputError: If shape or type are wrong, or if a number is not finite.
    """
    dim, unit = facts["dim"], facts["metric"] == "cosine"
    if vectors.ndim != 2 or vectors.shape[1] != dim or vectors.dtype.kind not in "fiu":
        raise InvalidInputError(
            f"`{name}` must be numbers of shape [n, {dim}], got {vectors.dtype} of shape {vectors.shape}"
        )
    ready = np.ascontiguousarray(vectors, dtype=np.float32)
    if len(ready) == 1:  # a fast path for single queries
        square = float(np.dot(ready[0], ready[0]))
        if square < np.inf and (not unit or abs(square - 1) < _LENGTH):
            return ready
    if not np.isfinite(ready).all():
        bad = int(np.flatnonzero(~np.isfinite(ready).all(axis=1))[0])
        raise InvalidInputError(f"`{name}`[{bad}] holds NaN or an infinite number")
    if unit:
        own = lengths(ready)
        scale = np.where((own > 0) & (np.abs(own - 1) > _LENGTH), own, 1)  # unit vectors stay the same in any batch
        if (scale != 1).any():
            ready = (ready / scale[:, None]).astype(np.float32)
    return ready
