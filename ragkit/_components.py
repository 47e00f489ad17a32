"""The built-in models, embedders, chunkers, retrievers, rerankers, metrics and answer readers, one line each.

Every component is registered as ``"module:attribute"``, so importing this module imports none of them.
"""

from __future__ import annotations

from ragkit.registry import register

_TORCH = ("torch", "transformers")
# The providers of LangChain's init_chat_model, and servers that speak OpenAI's protocol. The package of a provider has
# its name, except for these.
_PROVIDERS = (
    "anthropic", "azure_openai", "bedrock", "cohere", "deepseek", "google_genai", "google_vertexai", "groq",
    "huggingface", "llamacpp", "mistralai", "ollama", "openai", "openrouter", "perplexity", "together", "vllm", "xai",
)  # fmt: skip
# Those of its init_embeddings.
_EMBEDDING_PROVIDERS = (
    "azure_ai", "azure_openai", "bedrock", "cohere", "google_genai", "google_vertexai", "huggingface", "mistralai",
    "ollama", "openai",
)  # fmt: skip
_OTHER_PACKAGES = {
    "azure_openai": "langchain_openai", "bedrock": "langchain_aws", "llamacpp": "langchain_openai",
    "ollama": "langchain_openai", "vllm": "langchain_openai",
}  # fmt: skip

register("model", "smollm2", "ragkit.models._loading:load_local", requires=_TORCH)
register("model", "tiny", "ragkit.models._loading:load_local", requires=_TORCH)
register("model", "gemma3-270m", "ragkit.models._loading:load_local", requires=_TORCH)
register("model", "gguf:<file>", "ragkit.models._loading:load_local", requires=_TORCH)
register("model", "hf:<hub id or folder>", "ragkit.models._loading:load_local", requires=_TORCH)
register("model", "minilm", "ragkit.models._encoder:load_encoder", requires=("sentence_transformers",))
register("model", "st:<hub id or folder>", "ragkit.models._encoder:load_encoder", requires=("sentence_transformers",))
register("model", "onnx:minilm", "ragkit.models._encoder:load_encoder", requires=("onnxruntime", "tokenizers"))
register("model", "onnx:st:<hub id or folder>", "ragkit.models._encoder:load_encoder",
         requires=("onnxruntime", "tokenizers"))  # fmt: skip
register("model", "replay:<file>", "ragkit.models._replay:ReplayModel")
register("model", "completions:<model>", "ragkit.models._text_completions:load_text_model",
         requires=("langchain_openai",))  # fmt: skip
for _provider in _PROVIDERS:
    _package = _OTHER_PACKAGES.get(_provider, f"langchain_{_provider}")
    register("model", f"{_provider}:<model>", "ragkit.models._api_loading:load_api",
             requires=("langchain", _package))  # fmt: skip

register("embedder", "minilm", "ragkit.embedders._sentence_transformer:SentenceTransformerEmbedder.minilm")
register("embedder", "st:<hub id or folder>", "ragkit.embedders._sentence_transformer:SentenceTransformerEmbedder")
register("embedder", "onnx:minilm", "ragkit.embedders._onnx:OnnxEmbedder.minilm")
register("embedder", "onnx:st:<hub id or folder>", "ragkit.embedders._onnx:OnnxEmbedder")
register("embedder", "hash:<dimensions>", "ragkit.embedders._hashing:HashingEmbedder")
register("embedder", "fastembed:<model>", "ragkit.embedders._fastembed:FastembedEmbedder", requires=("fastembed",))
for _provider in _EMBEDDING_PROVIDERS:
    _package = _OTHER_PACKAGES.get(_provider, f"langchain_{_provider}")
    register("embedder", f"{_provider}:<model>", "ragkit.embedders._api:ApiEmbedder.from_spec",
             requires=("langchain", _package))  # fmt: skip

register("chunker", "recursive[:<characters>][:<overlap>]", "ragkit.ingest._chunking:RecursiveChunker")
register("chunker", "markdown[:<characters>][:<overlap>]", "ragkit.ingest._chunking:MarkdownChunker")
register("chunker", "tokens[:<tokens>][:<overlap>]", "ragkit.ingest._chunking:TokenChunker")

register("retriever", "dense", "ragkit.retrievers._dense:DenseRetriever")
register("retriever", "bm25", "ragkit.retrievers._bm25:BM25Retriever")
register("retriever", "hybrid", "ragkit.retrievers._hybrid:hybrid_of")

register("reranker", "cross-encoder:<hub id or folder>", "ragkit.retrievers._rerank:load_cross_encoder",
         requires=("sentence_transformers",))  # fmt: skip
register("reranker", "tokens:<embedder>", "ragkit.retrievers._rerank:TokenLikeness")

register("metric", "exact_match", "ragkit.metrics._matching:exact_match")
register("metric", "accuracy", "ragkit.metrics._matching:label_match")
register("metric", "choice", "ragkit.metrics._matching:ChoiceMatch")
register("metric", "number", "ragkit.metrics._matching:number_match")
register("metric", "f1", "ragkit.metrics._wording:token_f1")
register("metric", "chrf", "ragkit.metrics._wording:chrf")
register("metric", "rouge1", "ragkit.metrics._wording:rouge_1")
register("metric", "rouge2", "ragkit.metrics._wording:rouge_2")
register("metric", "rougeL", "ragkit.metrics._wording:rouge_l")
register("metric", "records", "ragkit.metrics._extracted:record_f1")
register("metric", "fields", "ragkit.metrics._extracted:field_f1")
register("metric", "macro_f1", "ragkit.metrics._set_level:MacroF1")
register("metric", "mcc", "ragkit.metrics._set_level:MatthewsCorrelation")
register("metric", "bleu", "ragkit.metrics._set_level:CorpusBleu")
register("metric", "ndcg[:<k>]", "ragkit.metrics._ranking:RankedLines")
register("metric", "sql:<database file>", "ragkit.metrics._sql:SqlMatch")
register("metric", "judge:<model>", "ragkit.metrics._judge:Judge")

register("answer reader", "first-line", "ragkit.answers._plain:FirstLine")
register("answer reader", "whole", "ragkit.answers._plain:Whole")
register("answer reader", "regex:<pattern>", "ragkit.answers._plain:Regex")
register("answer reader", "after:<marker>", "ragkit.answers._plain:After")
register("answer reader", "label", "ragkit.answers._labels:LabelReader")
register("answer reader", "choice", "ragkit.answers._choices:ChoiceReader")
register("answer reader", "number", "ragkit.answers._numbers:NumberReader")
register("answer reader", "json:<field>", "ragkit.answers._json_field:JsonField")
