"""The built-in strategies and trackers, one line each.

``[@<k>]`` in a spec means that the number of examples or passages may follow, ``[*<samples>]`` that the number of
sampled answers may, and ``[+<calibration>]`` that a calibration may.
"""

from __future__ import annotations

from ragkit.registry import register

_STRATEGIES = "ragkit_pipelines.compare.strategies"
_TUNING = f"{_STRATEGIES}.training:Tuning"

register("strategy", "majority", f"{_STRATEGIES}.named:Majority")
register("strategy", "tfidf", f"{_STRATEGIES}.named:Tfidf")
register("strategy", "vote:<selector>[@<k>]", f"{_STRATEGIES}.named:Vote")
register("strategy", "copy:<selector>", f"{_STRATEGIES}.named:Vote", preset={"k": 1})
register("strategy", "zero-shot[*<samples>]", f"{_STRATEGIES}.named:Prompting")
register("strategy", "few-shot:<selector>[@<k>][*<samples>]", f"{_STRATEGIES}.named:Prompting")
register("strategy", "reason[:<selector>][@<k>][*<samples>]", f"{_STRATEGIES}.named:Prompting",
         preset={"reasoning": True})  # fmt: skip
register("strategy", "score[:<selector>][@<k>][+<calibration>]", f"{_STRATEGIES}.scoring:Scoring")
register("strategy", "channel[:<selector>][@<k>][+<calibration>]", f"{_STRATEGIES}.scoring:Scoring",
         preset={"direction": "channel"})  # fmt: skip
register("strategy", "optimised-prompt", f"{_STRATEGIES}.prompt_search:OptimisedPrompt")
register("strategy", "rag[@<k>]", f"{_STRATEGIES}.retrieval:Rag")
register("strategy", "pearl[:<max_steps>]", f"{_STRATEGIES}.retrieval:Planning")
for _method in ("lora", "full", "last-layers", "prompt-tuning"):
    register("strategy", _method, _TUNING, preset={"method": _method})
register("strategy", "text+lora", _TUNING, preset={"method": "lora", "pretrain": True})
register("strategy", "lora+few-shot:<selector>[@<k>]", _TUNING, preset={"method": "lora", "pretrain": False})
register("strategy", "classifier-head", f"{_STRATEGIES}.training:EncoderTuning")
register("strategy", "setfit", f"{_STRATEGIES}.training:EncoderTuning", preset={"method": "setfit"})
register("strategy", "imitate:<teacher>", f"{_STRATEGIES}.imitation:Imitating")
register("tracker", "mlflow[:<experiment>]", "ragkit_pipelines.compare.trackers:MLflowTracker", requires=("mlflow",))
register("tracker", "wandb[:<project>]", "ragkit_pipelines.compare.trackers:WandbTracker", requires=("wandb",))
