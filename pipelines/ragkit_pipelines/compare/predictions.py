"""The answers of every strategy to every test row, as in `items.json`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, model_validator

from ragkit.errors import InvalidInputError
from ragkit.records import Example
from ragkit_pipelines.compare.frames import pandas_frame, polars_frame
from ragkit_pipelines.compare.results import Cell, Count, Seed, Share
from ragkit_pipelines.compare.stored_files import SCHEMA, check_indices, check_lengths, read_checked

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl


class Answers(BaseModel):
    """The answers of one strategy at one size and seed, in the order of the test rows.

    ``prompts`` are given for the first seed at the largest pool, ``confidence`` if the strategy returns it, and
    ``unreadable_rows`` are the indices of the test rows whose completions had no answer of the expected form.
    """

    model_config = ConfigDict(extra="forbid")

    strategy: str
    size: Count
    seed: Seed
    answers: list[str]
    scores: list[Share]
    prompts: list[str] = []
    confidence: list[Share] = []
    unreadable_rows: list[Count] = []


class Items(BaseModel):
    """The test rows with all answers; `rows` and the data frames show them together.

    Attributes:
        schema_version: Version of the file format, equal to that of the results.
        inputs: Text of each test row.
        expected: Its expected output.
        answers: One entry per strategy, size and seed that finished.
    """

    model_config = ConfigDict(extra="forbid")

    schema_version: int = SCHEMA
    inputs: list[str]
    expected: list[str]
    answers: list[Answers]

    @model_validator(mode="after")
    def _check_lengths(self) -> Items:
        for each in self.answers:
            check_lengths(len(self.expected), each.answers, each.scores, each.confidence, each.prompts)
            check_indices(len(self.expected), each.unreadable_rows)
        if len(self.inputs) != len(self.expected):
            raise ValueError("expected one output for each input")
        return self

    @classmethod
    def of(cls, test: Sequence[Example], cells: Sequence[Cell]) -> Items:
        """Collect the answers of cells."""
        done = [cell for cell in cells if cell.row.error is None]
        shown = max(((cell.row.size, -cell.row.seed) for cell in done), default=None)
        return cls(
            inputs=[row.text() for row in test],
            expected=[row.output for row in test],
            answers=[
                Answers(
                    strategy=cell.row.strategy,
                    size=cell.row.size,
                    seed=cell.row.seed,
                    answers=cell.answers,
                    scores=cell.scores,
                    confidence=cell.confidence,
                    unreadable_rows=cell.unreadable_rows,
                    prompts=cell.prompts if (cell.row.size, -cell.row.seed) == shown else [],
                )
                for cell in done
            ],
        )

    @classmethod
    def load(cls, folder: str | Path) -> Items:
        """Load the items of the comparison in a folder.

        Returns:
            The items.

        Raises:
            DataFileError: If the file does not exist, is damaged or has another schema version.
        """
        return read_checked(cls, Path(folder) / "items.json", "the answers of a comparison")

    def shown(self) -> list[Answers]:
        """Return the answers of the first seed at the largest pool, one entry per strategy, in their order."""
        shown = max(((each.size, -each.seed) for each in self.answers), default=None)
        return [each for each in self.answers if (each.size, -each.seed) == shown]

    def rows(self) -> list[dict[str, Any]]:
        """Return each test row with the answers of all strategies, for the first seed at the largest pool.

        Returns:
            One dict per test row with the keys ``input``, ``expected``, ``answers`` and ``scores``; the last two are
            dicts by strategy. A strategy without results at the largest pool is not included.
        """
        shown = self.shown()
        return [
            {
                "input": text,
                "expected": expected,
                "answers": {each.strategy: each.answers[index] for each in shown},
                "scores": {each.strategy: each.scores[index] for each in shown},
            }
            for index, (text, expected) in enumerate(zip(self.inputs, self.expected, strict=True))
        ]

    def to_pandas(self) -> pd.DataFrame:
        """Return a data frame with one line per answer: every test row, strategy, size and seed.

        Returns:
            The columns ``row`` (the index of the test row), ``input``, ``expected``, ``strategy``, ``size``, ``seed``,
            ``answer``, ``score`` and ``confidence``, which is missing if the strategy does not return it.

        Raises:
            MissingExtraError: If pandas is not installed.
        """
        return pandas_frame(self.records())

    def to_polars(self) -> pl.DataFrame:
        """Return the data frame of `to_pandas` as one of Polars.

        Returns:
            A data frame with the same columns.

        Raises:
            MissingExtraError: If Polars is not installed.
        """
        return polars_frame(self.records())

    def records(self) -> list[dict[str, Any]]:
        """Return one dict per answer, with the columns of `to_pandas`."""
        return [
            {
                "row": index,
                "input": self.inputs[index],
                "expected": self.expected[index],
                "strategy": each.strategy,
                "size": each.size,
                "seed": each.seed,
                "answer": answer,
                "score": each.scores[index],
                "confidence": each.confidence[index] if each.confidence else None,
            }
            for each in self.answers
            for index, answer in enumerate(each.answers)
        ]

    def scores(self) -> dict[tuple[str, int], dict[int, list[float]]]:
        """Return the scores by strategy and size, then by seed."""
        found: dict[tuple[str, int], dict[int, list[float]]] = {}
        for each in self.answers:
            found.setdefault((each.strategy, each.size), {})[each.seed] = each.scores
        return found

    def curve(self, strategy: str) -> dict[int, dict[int, list[float]]]:
        """Return the scores of one strategy by pool size, then by seed.

        Returns:
            A nested mapping.

        Raises:
            InvalidInputError: If the strategy did not finish at any size.
        """
        found = {size: seeds for (name, size), seeds in self.scores().items() if name == strategy}
        if not found:
            known = list(dict.fromkeys(each.strategy for each in self.answers))
            raise InvalidInputError(f"strategy {strategy!r} has no results; expected one of {known}")
        return found
