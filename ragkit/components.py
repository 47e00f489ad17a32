"""The built-in models, embedders, chunkers, retrievers, rerankers, metrics and answer readers, one line each.

Every component is registered as ``"module:attribute"``, so importing this module imports none of them.
"""

from __future__ import annotations

from ragkit.registry import register

_TORCH = ("torch", "transformers")
# The providers of LangChain's init_chat_model. The package of a provider has its name, except for two.
_PROVIDERS = (
    "anthropic", "azure_openai", "bedrock", "cohere", "deepseek", "google_genai", "google_vertexai", "groq",
    "huggingface", "mistralai", "ollama", "openai", "openrouter", "perplexity", "together", "xai",
)  # fmt: skip
_OTHER_PACKAGES = {"azure_openai": "langchain_openai", "bedrock": "langchain_aws"}

register("model", "smollm2", "ragkit.models.loading:load_local", requires=_TORCH)
register("model", "tiny", "ragkit.models.loading:load_local", requires=_TORCH)
register("model", "gemma3-270m", "ragkit.models.loading:load_local", requires=_TORCH)
register("model", "gguf:<file>", "ragkit.models.loading:load_local", requires=_TORCH)
register("model", "hf:<hub id or folder>", "ragkit.models.loading:load_local", requires=_TORCH)
register("model", "minilm", "ragkit.models.encoder:load_encoder", requires=("sentence_transformers",))
register("model", "st:<hub id or folder>", "ragkit.models.encoder:load_encoder", requires=("sentence_transformers",))
register("model", "onnx:minilm", "ragkit.models.encoder:load_encoder", requires=("onnxruntime", "tokenizers"))
register("model", "onnx:st:<hub id or folder>", "ragkit.models.encoder:load_encoder",
         requires=("onnxruntime", "tokenizers"))  # fmt: skip
register("model", "replay:<file>", "ragkit.models.replay:ReplayModel")
for _provider in _PROVIDERS:
    _package = _OTHER_PACKAGES.get(_provider, f"langchain_{_provider}")
    register("model", f"{_provider}:<model>", "ragkit.models.api:LangChainModel.from_spec",
             requires=("langchain", _package))  # fmt: skip

register("embedder", "minilm", "ragkit.embedders.sentence_transformer:SentenceTransformerEmbedder.minilm")
register("embedder", "st:<hub id or folder>", "ragkit.embedders.sentence_transformer:SentenceTransformerEmbedder")
register("embedder", "onnx:minilm", "ragkit.embedders.onnx:OnnxEmbedder.minilm")
register("embedder", "onnx:st:<hub id or folder>", "ragkit.embedders.onnx:OnnxEmbedder")
register("embedder", "hash:<dimensions>", "ragkit.embedders.hashing:HashingEmbedder")

register("chunker", "recursive[:<characters>][:<overlap>]", "ragkit.ingest.chunking:RecursiveChunker")
register("chunker", "markdown[:<characters>][:<overlap>]", "ragkit.ingest.chunking:MarkdownChunker")
register("chunker", "tokens[:<tokens>][:<overlap>]", "ragkit.ingest.chunking:TokenChunker")

register("retriever", "dense", "ragkit.retrievers.dense:DenseRetriever")
register("retriever", "bm25", "ragkit.retrievers.bm25:BM25Retriever")
register("retriever", "hybrid", "ragkit.retrievers.hybrid:hybrid_of")

register("reranker", "cross-encoder:<hub id or folder>", "ragkit.retrievers.rerank:load_cross_encoder",
         requires=("sentence_transformers",))  # fmt: skip
register("reranker", "tokens:<embedder>", "ragkit.retrievers.rerank:TokenLikeness")

register("metric", "exact_match", "ragkit.metrics.matching:exact_match")
register("metric", "accuracy", "ragkit.metrics.matching:label_match")
register("metric", "choice", "ragkit.metrics.matching:ChoiceMatch")
register("metric", "number", "ragkit.metrics.matching:number_match")
register("metric", "f1", "ragkit.metrics.wording:token_f1")
register("metric", "chrf", "ragkit.metrics.wording:chrf")
register("metric", "rouge1", "ragkit.metrics.wording:rouge_1")
register("metric", "rouge2", "ragkit.metrics.wording:rouge_2")
register("metric", "rougeL", "ragkit.metrics.wording:rouge_l")
register("metric", "records", "ragkit.metrics.extracted:record_f1")
register("metric", "fields", "ragkit.metrics.extracted:field_f1")
register("metric", "sql:<database file>", "ragkit.metrics.sql:SqlMatch")
register("metric", "judge:<model>", "ragkit.metrics.judge:Judge")

register("answer reader", "first-line", "ragkit.answers.plain:FirstLine")
register("answer reader", "whole", "ragkit.answers.plain:Whole")
register("answer reader", "regex:<pattern>", "ragkit.answers.plain:Regex")
register("answer reader", "after:<marker>", "ragkit.answers.plain:After")
register("answer reader", "label", "ragkit.answers.labels:LabelReader")
register("answer reader", "choice", "ragkit.answers.choices:ChoiceReader")
register("answer reader", "number", "ragkit.answers.numbers:NumberReader")
register("answer reader", "json:<field>", "ragkit.answers.json_field:JsonField")
