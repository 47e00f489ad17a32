"""Export of sentence-transformers models to ONNX with torch."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer

from ragkit.embedders._onnx_files import Exported, Facts
from ragkit.embedders._sentence_transformer import document_prompt, load_from, query_prompt
from ragkit.errors import UnsupportedError

# Texts on which an export is compared with the model: short, empty, of several scripts, past most windows.
PROBES = (
    "lamp",
    "",
    "  Two lamps in the hall, one on the stairs.\n",
    "naïve café 東京 \U0001f642",
    "the river runs to the sea " * 20,
    "word " * 600,
)
_MODULES = ("Transformer", "Pooling", "Normalize", "Dense")
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_OPSET = 18
_LARGEST = 2**31 - 2**24  # a graph with its weights is one protobuf message


class _Graph(torch.nn.Module):  # type: ignore[misc]
    """All modules of a model combined into one that takes and returns tensors."""

    def __init__(self, model: SentenceTransformer, names: list[str]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map inputs i64[n, t] to the embeddings of texts, f32[n, dim], and of their tokens, f32[n, t, hidden]."""
        features = self.model(dict(zip(self.names, inputs, strict=True)))
        return features["sentence_embedding"], features["token_embeddings"]


def export(folder: Path) -> tuple[Exported, dict[str, NDArray[np.float32]]]:
    """Return a float32 export of a model, and the original's unit vectors f32[n, dim] for `PROBES`.

    The vectors have the keys ``"query"`` and ``"document"``.

    Raises:
        UnsupportedError: If the model contains modules whose export is not supported.
    """
    # The eager attention implementation results in the smallest graph.
    kwargs = {"dtype": torch.float32, "attn_implementation": "eager"}
    model = load_from(SentenceTransformer, str(folder), device="cpu", model_kwargs=kwargs).eval()
    features = model.preprocess(list(PROBES[:3]))
    tensors = {name: value for name, value in features.items() if isinstance(value, torch.Tensor)}
    if reason := _reason_against(model, tensors):
        raise UnsupportedError(
            f"{folder} cannot be exported to ONNX: {reason}; use 'st:{folder}', which runs it in torch"
        )
    tokenizer = Tokenizer.from_str(model.tokenizer.backend_tokenizer.to_str())  # a copy with settings of its own
    tokenizer.no_padding()
    if model.max_seq_length is not None:
        tokenizer.enable_truncation(int(model.max_seq_length))
    names = [name for name in _INPUTS if name in tensors]
    facts = Facts(
        dim=int(model.get_embedding_dimension()),
        inputs=names,
        pad_id=int(model.tokenizer.pad_token_id),
        query_prompt=query_prompt(model),
        document_prompt=document_prompt(model),
    )
    expected = {
        kind: encode(list(PROBES), batch_size=2, normalize_embeddings=True, show_progress_bar=False)
        for kind, encode in {"query": model.encode_query, "document": model.encode_document}.items()
    }
    graph = _traced(_Graph(model, names).eval(), [tensors[name] for name in names])
    return Exported(graph=graph, tokenizer=tokenizer.to_str().encode(), facts=facts), expected


def _reason_against(model: Any, tensors: dict[str, Any]) -> str | None:
    """Return why a model with these inputs cannot be exported; None if it can."""
    if unknown := sorted({type(part).__name__ for part in model} - set(_MODULES)):
        return f"it has modules {unknown}, known are {_MODULES}"
    if not all(getattr(part, "include_prompt", True) for part in model) or model.truncate_dim is not None:
        return "it leaves prompts out of its vectors, or cuts them"
    if 4 * sum(weights.numel() for weights in model.parameters()) > _LARGEST:
        return "its weights are above 2 GB"
    tokenizer = model.tokenizer
    fast = getattr(tokenizer, "backend_tokenizer", None) is not None
    if not fast or tokenizer.padding_side != "right" or tokenizer.pad_token_id is None:
        return "its tokenizer is slow, or does not pad on the right"
    if not tensors.keys() <= set(_INPUTS) or any(value.ndim != 2 for value in tensors.values()):
        return f"it takes the inputs {sorted(tensors)}"
    return None


def _traced(module: _Graph, examples: list[torch.Tensor]) -> bytes:
    axes = {name: {0: "texts", 1: "length"} for name in (*module.names, "tokens")} | {"sentence": {0: "texts"}}
    with tempfile.TemporaryDirectory(prefix="ragkit-") as work, warnings.catch_warnings(), torch.inference_mode():
        # The tracer warns about every shape that it reads. The comparison detects shapes that it treats as constants.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            tuple(examples),
            f"{work}/model.onnx",
            input_names=module.names,
            output_names=["sentence", "tokens"],
            dynamic_axes=axes,
            opset_version=_OPSET,
            dynamo=False,
        )
        return Path(work, "model.onnx").read_bytes()
