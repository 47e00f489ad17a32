"""The record of a fine-tuning run: written last, so that a folder with it is a finished one."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from ragkit.errors import IntegrityError, InvalidInputError
from ragkit.records import Example
from ragkit.templates import Template

MANIFEST = "ragkit.json"
RUN = "run.json"


class Manifest(BaseModel):
    """What was trained, on what, with what, and what came of it.

    Attributes:
        kind: ``"causal"`` for a language model, ``"classifier"`` for an encoder with a head.
        run: Hash of everything that decides the result; a run is taken up again only where it is equal.
        base: Spec, hub id or folder of the base.
        rows: Rows that were kept, truncated and dropped.
        tokens: Tokens seen in training, all epochs together.
        loss: Mean loss of the last steps.
    """

    model_config = ConfigDict(extra="forbid")

    format: Literal[1] = 1
    kind: Literal["causal", "classifier"]
    method: str
    run: str
    base: str
    base_fingerprint: str
    query: str
    answer: str
    separator: str
    instruction: str
    labels: tuple[str, ...] | None = None
    seed: int
    epochs: float
    learning_rate: float
    rows: dict[str, int]
    tokens: int
    seconds: float
    loss: float
    versions: dict[str, str]

    @property
    def template(self) -> Template:
        """The template of training, to be used for asking too."""
        return Template(query=self.query, answer=self.answer, separator=self.separator, instruction=self.instruction)

    def write(self, folder: Path) -> None:
        """Write the manifest in one step: it is there whole or not at all."""
        write_atomic(folder / MANIFEST, self.model_dump_json(indent=1))

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read the manifest of a finished run.

        Returns:
            The manifest.

        Raises:
            IntegrityError: If it is damaged or of another format.
        """
        try:
            return cls.model_validate_json((folder / MANIFEST).read_text(encoding="utf-8"))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise IntegrityError(
                f"{folder / MANIFEST} is damaged or newer than this ragkit: {first['loc']} {first['msg']}"
            ) from error


def run_hash(**facts: Any) -> str:
    """Hash what decides a training run's result.

    Returns:
        A short hash.
    """
    return hashlib.sha256(json.dumps(facts, sort_keys=True, ensure_ascii=False, default=str).encode()).hexdigest()[:16]


def data_hash(examples: Sequence[Example]) -> str:
    """Hash inputs and outputs in their order.

    Returns:
        A short hash.
    """
    return run_hash(
        rows=[[row.input if isinstance(row.input, str) else dict(row.input), row.output] for row in examples]
    )


def open_run(folder: Path, run: str) -> bool:
    """Claim a folder for a run, or recognise the same run in it.

    Returns:
        True where the run is finished already.

    Raises:
        InvalidInputError: If the folder holds something else.
    """
    if (folder / MANIFEST).is_file():
        if Manifest.read(folder).run == run:
            return True
        raise InvalidInputError(f"{folder} holds another fine-tuned model; give another `output_dir` or delete it")
    if (folder / RUN).is_file():
        if json.loads((folder / RUN).read_text(encoding="utf-8")).get("run") != run:
            raise InvalidInputError(
                f"{folder} holds an unfinished run with other data or settings; give another `output_dir` or delete it"
            )
    elif folder.exists() and any(folder.iterdir()):
        raise InvalidInputError(f"{folder} is not empty and holds no run of ragkit; give another `output_dir`")
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / RUN, json.dumps({"run": run}))
    return False


def write_atomic(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old one or the new one, never a part."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
