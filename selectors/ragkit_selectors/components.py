"""The built-in selectors and stages, one line each."""

from __future__ import annotations

from ragkit.registry import register

register("selector", "random", "ragkit_selectors.baselines:RandomSelector")
register("selector", "fixed", "ragkit_selectors.baselines:FixedSelector")
register("selector", "jaccard", "ragkit_selectors.lexical:JaccardSelector")
register("selector", "containment", "ragkit_selectors.lexical:ContainmentSelector")
register("selector", "bm25", "ragkit_selectors.lexical:BM25Selector")
register("selector", "tfidf", "ragkit_selectors.lexical:TfidfSelector")
register("selector", "ngram", "ragkit_selectors.lexical:NgramSelector")
register("selector", "embedding", "ragkit_selectors.embedding:EmbeddingSelector")
register("selector", "hybrid", "ragkit_selectors.hybrid:HybridSelector")

register("stage", "guard[:<similarity>]", "ragkit_selectors.stages.filters:Guard")
register("stage", "min-score:<score>", "ragkit_selectors.stages.filters:MinScore")
register("stage", "token-limit[:<tokens>]", "ragkit_selectors.stages.filters:TokenLimit")
register("stage", "mmr[:<relevance>]", "ragkit_selectors.stages.diversity_stages:Mmr")
register("stage", "dpp", "ragkit_selectors.stages.diversity_stages:Dpp")
register("stage", "coverage", "ragkit_selectors.stages.diversity_stages:Coverage")
register("stage", "label-nearest", "ragkit_selectors.stages.diversity_stages:LabelNearest")
register("stage", "label-balanced", "ragkit_selectors.stages.diversity_stages:LabelBalanced")
for _order in ("similar_last", "similar_first", "shuffled"):
    register("stage", _order.replace("_", "-"), "ragkit_selectors.stages.prompt_order:Order", preset={"order": _order})
