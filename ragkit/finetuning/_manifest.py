"""Manifests of fine-tuning runs, which are written last and mark a run as finished."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator
from typing_extensions import override

from ragkit._files import file_sha256, make_private, write_atomic
from ragkit.errors import IntegrityError, UnknownSpecError
from ragkit.records import Chat, Example, Form, Preference
from ragkit.templates import Template

MANIFEST = "ragkit.json"
_MOST_FIELDS = 1000
_MOST_BYTES = 2**26
_HASHED = ("*.safetensors", "*.json", "*.txt", "*.jinja", "*.model")


class StoredRecord(BaseModel):
    """A record in a file of its own, which is written atomically and may only have the entries that it declares."""

    model_config = ConfigDict(extra="forbid")
    file_name: ClassVar[str]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Return the record in a folder, or raise an `IntegrityError` if it is missing or damaged."""
        path = folder / cls.file_name
        try:
            if path.stat().st_size > _MOST_BYTES:
                raise ValueError(f"it is larger than {_MOST_BYTES:,} bytes")  # noqa: TRY301 - like other damage
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:  # a ValidationError is a ValueError
            problem = error.errors(include_url=False)[0] if isinstance(error, ValidationError) else {"msg": str(error)}
            raise IntegrityError(
                f"{path} cannot be read; it is damaged or of another version of ragkit: {problem.get('loc', '')} "
                f"{problem['msg']}; train again"
            ) from error

    def write(self, folder: Path) -> None:
        """Write the record to a folder, and withdraw other users' access to what libraries have written there."""
        make_private(folder)
        write_atomic(folder / self.file_name, self.model_dump_json(indent=1))


class TemplateRecord(BaseModel):
    """The stored form of a `Template`."""

    model_config = ConfigDict(extra="forbid")

    query: str
    answer: str
    separator: str
    instruction: str
    form: Form = "text"
    labels: tuple[str, ...] = ()

    @field_validator("query")
    @classmethod
    def _check_query(cls, query: str) -> str:
        if query.count("{") > _MOST_FIELDS:  # each of them repeats an input
            raise ValueError(f"a query may have at most {_MOST_FIELDS} fields")
        return query

    @classmethod
    def of(cls, template: Template) -> TemplateRecord:
        """Create the record of a template."""
        return cls(**asdict(template))

    def template(self) -> Template:
        """Return the stored template."""
        return Template(**self.model_dump())


class Evaluation(BaseModel):
    """Results on the held-out rows after an epoch.

    Attributes:
        epoch: Number of passes over the training rows before the evaluation.
        loss: Mean loss of the answer tokens.
        metric: Mean score of the generated answers; None if there is no metric.
    """

    model_config = ConfigDict(extra="forbid")

    epoch: float
    loss: float
    metric: float | None = None


class Manifest(StoredRecord):
    """The record of a fine-tuning run: its data, base model, settings and results.

    Attributes:
        kind: ``"causal"`` for a language model, ``"classifier"`` for an encoder with a head.
        form: Contents of the folder: a whole model, an adapter (or soft prompt) for the base model, only a head, or,
            for ``"remote"``, the name of a model at a vendor.
        run: Hash of everything that determines the result; a run is resumed only if it is equal.
        base: Spec, hub id or folder of the base model.
        base_fingerprint: Hash of the base model's weights, tokenizer and chat template; checked on loading.
        weights: Hash of the weights in the folder; checked on loading.
        ask_with: Template of the training, to be used for prompts as well.
        tasks: Templates of the tasks of a mixture, by name.
        seal: Hash of all other entries of the manifest; checked on loading. In ragkit 0.1, hash of the templates only.
        rows: Numbers of rows that were kept, truncated and dropped.
        tokens: Number of training tokens in all epochs.
        flops: FLOPs of training, computed from shapes; None if not counted.
        seconds: Elapsed time of training in seconds; if the run was resumed, only that of the last process.
        loss: Mean loss of the steps; if the run was resumed, only that of the last process. For a vendor, the last
            reported loss, or None.
        eval_loss: Loss on the held-out rows in the selected epoch.
        eval_metric: The task's metric on the held-out rows in that epoch, if the epoch was selected by it.
        evaluations: Loss and metric on the held-out rows after each epoch.
        epochs: Completed passes over the rows, which are fewer than requested after early stopping.
        cost: Cost of the training at a vendor in US dollars; None if the price is unknown or training was local.
        remote: Spec of the model at the vendor.
        address: Address of the vendor's server, if it is not the default.
    """

    file_name = MANIFEST

    format: Literal[2] = 2
    kind: Literal["causal", "classifier"]
    form: Literal["model", "adapter", "head", "remote"]
    method: str
    objective: str = "completion"
    run: str
    base: str
    base_fingerprint: str
    weights: str
    data: str
    ask_with: TemplateRecord
    tasks: dict[str, TemplateRecord] = {}
    seal: str = ""
    labels: tuple[str, ...] | None = None
    seed: int
    epochs: float
    learning_rate: float | None
    rows: dict[str, int]
    tokens: int
    flops: float | None = None
    seconds: float
    loss: float | None
    eval_loss: float | None = None
    eval_metric: float | None = None
    evaluations: tuple[Evaluation, ...] = ()
    cost: float | None = None
    remote: str | None = None
    address: str | None = None
    versions: dict[str, str]

    @property
    def template(self) -> Template:
        """The template of the training, to be used for prompts as well."""
        return self.ask_with.template()

    def template_of(self, task: str) -> Template:
        """Return the template of one task of a mixture.

        Args:
            task: Name of the task.

        Returns:
            The template.

        Raises:
            UnknownSpecError: If the mixture has no task with this name.
        """
        if task not in self.tasks:
            raise UnknownSpecError("task of this model", task, self.tasks)
        return self.tasks[task].template()

    @override
    def write(self, folder: Path) -> None:
        super(Manifest, self.model_copy(update={"seal": self._seal()})).write(folder)

    @classmethod
    @override
    def read(cls, folder: Path) -> Self:
        manifest = super().read(folder)
        if manifest.seal not in {manifest._seal(), manifest._seal_of_templates()}:
            raise IntegrityError(
                f"a template or another entry of {folder / MANIFEST} was changed after training; restore the original "
                "file or train again"
            )
        return manifest

    def check_base(self, folder: Path, found: str) -> None:
        """Check that the fingerprint of the base model is the one found in training."""
        if found != self.base_fingerprint:
            raise IntegrityError(
                f"{folder} was trained on {self.base} with fingerprint {self.base_fingerprint}, "
                f"but what is there now has {found}; train again or bring the old base back"
            )

    def check_weights(self, folder: Path) -> None:
        """Check that the weights have not changed since training; a head is checked when it is loaded."""
        if self.form in {"head", "remote"}:
            return
        found = files_hash(folder / "model") if (folder / "model").is_dir() else "no such folder"
        if found != self.weights:
            raise IntegrityError(
                f"the weights in {folder / 'model'} are damaged or were changed: expected {self.weights}, "
                f"found {found}; copy the folder again or train again"
            )

    def _seal(self) -> str:
        return run_hash(**self.model_dump(mode="json", exclude={"seal"}))

    def _seal_of_templates(self) -> str:
        tasks = {name: record.model_dump() for name, record in self.tasks.items()}
        return run_hash(ask_with=self.ask_with.model_dump(), tasks=tasks)


def run_hash(**facts: Any) -> str:
    """Return a short hash of everything that determines the result of a run."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, ensure_ascii=False, default=str).encode()).hexdigest()[:16]


def data_hash(rows: Iterable[object]) -> str:
    """Return a short hash of frozen records or texts, in their order."""
    return run_hash(rows=list(map(_content, rows)))


def _content(row: object) -> object:
    """Return the content of a row without its id and metadata."""
    if isinstance(row, Example):
        return [row.input if isinstance(row.input, str) else dict(row.input), row.output]
    if isinstance(row, Preference):
        return [_content(row.prompt), row.chosen, row.rejected]
    if isinstance(row, Chat):
        return [[message.role, message.content, message.weight] for message in row.messages]
    if isinstance(row, str):
        return row
    return dict(row) if isinstance(row, Mapping) else repr(row)


def files_hash(folder: Path) -> str:
    """Return a short hash of the names and contents of the weights and settings in a folder."""
    digest = hashlib.sha256()
    for file in sorted({file for pattern in _HASHED for file in folder.glob(pattern)}):
        digest.update(file.name.encode())
        digest.update(bytes.fromhex(file_sha256(file)))
    return digest.hexdigest()[:16]
