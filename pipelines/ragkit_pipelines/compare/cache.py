"""A model whose answers are kept on disk, so that a comparison that was killed repeats no finished call."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ragkit.models.base import ModelBase, Sampling, prompt_text
from ragkit.protocols import AnyPrompt, Capabilities, LanguageModel
from ragkit.records import Completion, Usage


class CachedModel(ModelBase):
    """Answer from a SQLite file where it holds the answer, else from a model, whose answers are kept.

    Answers are committed in groups of ``group``, so that a kill loses one group at the most. A kept answer has the
    tokens, cost and seconds of the call that made it, and is marked as cached.
    """

    def __init__(self, model: LanguageModel, path: Path, *, group: int = 32) -> None:
        """Put a cache before a model."""
        self.model, self.group = model, group
        path.parent.mkdir(parents=True, exist_ok=True)
        self._store = sqlite3.connect(path, check_same_thread=False)
        self._store.execute("CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT NOT NULL)")

    @property
    @override
    def name(self) -> str:
        return self.model.name

    @property
    @override
    def fingerprint(self) -> str:
        return self.model.fingerprint

    @property
    @override
    def capabilities(self) -> Capabilities:
        return self.model.capabilities

    @override
    def count_tokens(self, text: str) -> int:
        return self.model.count_tokens(text)

    @override
    def score(self, prompts: Sequence[AnyPrompt], choices: Sequence[str]) -> NDArray[np.float64]:
        return self.model.score(prompts, choices)

    @override
    def _complete(self, prompts: Sequence[AnyPrompt], sampling: Sampling) -> list[Completion]:
        settings = asdict(sampling)
        keys = [self._key(prompt, settings) for prompt in prompts]
        found = {key: answer for key in set(keys) if (answer := self._read(key))}
        missing = {key: prompt for key, prompt in zip(keys, prompts, strict=True) if key not in found}
        todo = list(missing.items())
        for start in range(0, len(todo), self.group):
            group = todo[start : start + self.group]
            answers = self.model.generate([prompt for _, prompt in group], **settings)
            with self._store:
                rows = [(key, json.dumps(asdict(answer))) for (key, _), answer in zip(group, answers, strict=True)]
                self._store.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?)", rows)
            found |= {key: answer for (key, _), answer in zip(group, answers, strict=True)}
        return [found[key] for key in keys]

    def _key(self, prompt: AnyPrompt, settings: dict[str, object]) -> str:
        facts = json.dumps([self.fingerprint, type(prompt).__name__ == "Chat", prompt_text(prompt), settings])
        return hashlib.sha256(facts.encode()).hexdigest()

    def _read(self, key: str) -> Completion | None:
        row = self._store.execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        answer = json.loads(row[0])
        return replace(Completion(**{**answer, "usage": Usage(**answer["usage"])}), cached=True)
