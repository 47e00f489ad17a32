"""Fine-tuning at a vendor with OpenAI's protocol: uploads, jobs and the resulting models."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ragkit._extras import require
from ragkit._progress import progress
from ragkit.errors import InvalidInputError, TrainingError, UnsupportedError
from ragkit.finetuning._manifest import Manifest, StoredRecord, TemplateRecord, data_hash, run_hash
from ragkit.finetuning._remote_costs import TrainingEstimate, VendorCheckpoint, checkpoints_of, estimated
from ragkit.finetuning._result import FineTuned
from ragkit.finetuning._rows import training_rows
from ragkit.finetuning._runs import open_run
from ragkit.models import load_model
from ragkit.models._prompts import in_form
from ragkit.models._provider_errors import as_model_error
from ragkit.models._rate_limit import Retry
from ragkit.records import Chat, Example, Message
from ragkit.templates import Template

if TYPE_CHECKING:
    from ragkit.finetuning._settings import Settings
    from ragkit.models._api import LangChainModel

STATE = "job.json"
_FIRST_WAIT, _LONGEST_WAIT = 2.0, 30.0  # seconds between two requests for the status of a job
_OVER = ("failed", "cancelled")
_Result = TypeVar("_Result")


class _State(StoredRecord):
    """The progress of a run, which is written to disk after each step so that no step is repeated."""

    file_name = STATE

    run: str
    base: str
    address: str | None
    training_file: str | None = None
    validation_file: str | None = None
    job: str | None = None


def train_remote(model: Any, train: Any, held_out: Any, settings: Settings) -> FineTuned:
    """Fine-tune an API model; see `ragkit.finetune`."""
    settings.check_for_api()
    base = _api_model(model)
    template = settings.template or Template()
    rows = training_rows(train, "completion", name="train")
    held = training_rows(held_out, "completion", name="eval") if held_out is not None else []
    run = run_hash(
        base=base.fingerprint, data=data_hash(rows), held_out=data_hash(held), template=repr(template),
        epochs=settings.epochs, seed=settings.seed, options=dict(settings.trainer_config),
    )  # fmt: skip
    folder, files = settings.folder, _files(rows, held, template)
    if not open_run(folder, run):
        started = time.perf_counter()
        vendor = _Vendor(base)
        state = (
            _State.read(folder) if (folder / STATE).is_file() else _State(run=run, base=base.name, address=base.address)
        )
        job = _trained(vendor, state, folder, files, settings)
        _write_manifest(folder, vendor, job, state, rows, template, settings, time.perf_counter() - started)
    manifest = Manifest.read(folder)
    tuned = load_model(str(manifest.remote), base_url=base.address, api_key_env=base.key_variable, prices=base.prices)
    return FineTuned(tuned, folder, manifest)


def estimate_finetuning(
    model: Any,
    train: Any,
    *,
    epochs: int = 3,
    template: Template | None = None,
) -> TrainingEstimate:
    """Estimate the cost of fine-tuning at a vendor, without calling the vendor.

    Args:
        model: As for `ragkit.finetune` with ``method="api"``; load it with ``prices=`` that contain ``training``.
        train: As for `ragkit.finetune`.
        epochs: As for `ragkit.finetune`.
        template: As for `ragkit.finetune`.

    Returns:
        The number of rows and tokens, and the cost if the price is known.
    """
    rows = training_rows(train, "completion", name="train")
    lines = _files(rows, [], template or Template()).get("training_file", b"")
    return estimated(_api_model(model), lines, epochs)


def finetuning_checkpoints(folder: str | Path, *, base_url: str | None = None) -> list[VendorCheckpoint]:
    """List the checkpoints that a vendor stored during a run, each of which can be loaded as a model.

    Args:
        folder: The ``output_dir`` of `ragkit.finetune`.
        base_url: Address of the vendor's server, as for `cancel_finetuning`.

    Returns:
        The checkpoints in the order of their steps; empty before the vendor has stored one.

    Raises:
        InvalidInputError: If the folder has no job, or a job at another address.
    """
    vendor, job = _job_of(Path(folder), base_url)
    stored = vendor.call(lambda: list(vendor.client.fine_tuning.jobs.checkpoints.list(job, limit=100)))
    return checkpoints_of(vendor.base.name.partition(":")[0], stored)


def cancel_finetuning(folder: str | Path, *, base_url: str | None = None) -> str:
    """Cancel the job of a run at a vendor, which otherwise continues even if this process ends.

    Args:
        folder: The ``output_dir`` of `ragkit.finetune`.
        base_url: Address of the vendor's server, if it is not the default. It receives your API key, so the address in
            the folder is not used on its own.

    Returns:
        The status of the job.

    Raises:
        InvalidInputError: If the folder has no job, or a job at another address.
    """
    vendor, job = _job_of(Path(folder), base_url)
    return str(vendor.call(lambda: vendor.client.fine_tuning.jobs.cancel(job)).status)


def has_job(folder: Path) -> bool:
    """Return whether the job of a run was begun, so that the same call costs nothing more."""
    return (folder / STATE).is_file() and _State.read(folder).job is not None


def _job_of(folder: Path, base_url: str | None) -> tuple[_Vendor, str]:
    """Return the vendor and the identifier of the job in a folder."""
    if not (folder / STATE).is_file() or (state := _State.read(folder)).job is None:
        raise InvalidInputError(f"{folder} holds no job of a vendor; nothing to cancel or to list")
    if state.address not in {None, base_url}:
        raise InvalidInputError(
            f"the job of {folder} is at {state.address}; pass `base_url` to send your API key there"
        )
    return _Vendor(_api_model(load_model(state.base, base_url=state.address))), state.job


class _Vendor:
    """The vendor's endpoints. Calls are retried after transient errors, without creating files or jobs twice."""

    def __init__(self, base: LangChainModel) -> None:
        self.base = base
        self.client: Any = base.chat_model.root_client.with_options(max_retries=0)

    def call(self, work: Callable[[], _Result]) -> _Result:
        def attempt() -> _Result:
            try:
                return work()
            except Exception as error:  # noqa: BLE001 - the vendor's package has its own errors
                failure = as_model_error(error, self.base.name, self.base.secrets())
            raise failure

        return Retry().run(attempt)

    def upload(self, name: str, content: bytes) -> str:
        def work() -> str:
            for file in self.client.files.list(purpose="fine-tune", limit=100):
                if file.filename == name and file.bytes == len(content):
                    return str(file.id)
            return str(self.client.files.create(file=(name, content), purpose="fine-tune").id)

        return self.call(work)

    def begin(self, body: dict[str, Any]) -> str:
        def work() -> str:
            for job in self.client.fine_tuning.jobs.list(limit=100):
                if job.training_file == body["training_file"] and job.status not in _OVER:
                    return str(job.id)
            return str(self.client.fine_tuning.jobs.create(**body).id)

        return self.call(work)

    def wait(self, job_id: str) -> Any:
        wait = _FIRST_WAIT
        with progress(f"{self.base.name}: the vendor trains", None):
            while True:
                job = self.call(lambda: self.client.fine_tuning.jobs.retrieve(job_id))
                if job.status in {"succeeded", *_OVER}:
                    return job
                time.sleep(wait)
                wait = min(1.5 * wait, _LONGEST_WAIT)

    def losses(self, job_id: str) -> tuple[float | None, float | None]:
        """Return the last losses that the vendor reported, on training and held-out rows."""
        events = self.call(lambda: self.client.fine_tuning.jobs.list_events(job_id, limit=100).data)
        told = [event.data for event in events if event.type == "metrics" and isinstance(event.data, dict)]
        return _first_number(told, "train_loss"), _first_number(told, "valid_loss")


def _trained(vendor: _Vendor, state: _State, folder: Path, files: dict[str, bytes], settings: Settings) -> Any:
    """Complete a run from its current state."""
    for field, content in files.items():
        if getattr(state, field) is None:
            name = f"ragkit-{state.run}-{field.removesuffix('_file')}.jsonl"
            setattr(state, field, vendor.upload(name, content))
            state.write(folder)
    if state.job is None:
        state.job = vendor.begin(_job_body(vendor.base.name, state, settings))
        state.write(folder)
    job = vendor.wait(state.job)
    if job.status in _OVER:
        state.job = None  # the same call starts a new job with the same files
        state.write(folder)
        reason = getattr(job.error, "message", None) or f"the job is {job.status}"
        raise TrainingError(f"{vendor.base.name} was not fine-tuned: {reason}; call again for another attempt")
    return job


def _job_body(name: str, state: _State, settings: Settings) -> dict[str, Any]:
    options = dict(settings.trainer_config)
    given = {"validation_file": state.validation_file, "suffix": options.pop("suffix", None)}
    hyperparameters = {"n_epochs": int(settings.epochs), **options}
    return {
        "model": name.partition(":")[2],
        "training_file": state.training_file,
        "seed": settings.seed,
        "method": {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}},
        **{field: value for field, value in given.items() if value is not None},
    }


def _write_manifest(
    folder: Path, vendor: _Vendor, job: Any, state: _State, rows: Sequence[Any], template: Template,
    settings: Settings, seconds: float,
) -> None:  # fmt: skip
    base = vendor.base
    loss, eval_loss = vendor.losses(job.id)
    tokens = job.trained_tokens or 0
    cost = base.prices.training_cost(base.name, tokens) if tokens else None
    provider = base.name.partition(":")[0]
    Manifest(
        kind="causal", form="remote", method="api", run=state.run, base=base.name, base_fingerprint=base.fingerprint,
        weights="", data=data_hash(rows), ask_with=TemplateRecord.of(template), seed=settings.seed,
        epochs=settings.epochs, learning_rate=None, rows={"kept": len(rows), "truncated": 0, "dropped": 0},
        tokens=tokens, seconds=seconds, loss=loss, eval_loss=eval_loss, cost=cost,
        remote=f"{provider}:{job.fine_tuned_model}", address=state.address, versions={"openai": version("openai")},
    ).write(folder)  # fmt: skip


def _api_model(model: Any) -> LangChainModel:
    """Return the API model without middleware, which is not needed for fine-tuning."""
    require("langchain", "langchain_openai")
    from ragkit.models._api import LangChainModel
    from ragkit.models._middleware import LayeredModel

    loaded = load_model(model)
    inner = loaded.model if isinstance(loaded, LayeredModel) else loaded
    if not isinstance(inner, LangChainModel) or not hasattr(inner.chat_model, "root_client"):
        raise UnsupportedError(f"'api' takes a model of OpenAI's protocol such as 'openai:<model>', got {loaded.name}")
    return inner


def _files(rows: Sequence[Any], held: Sequence[Any], template: Template) -> dict[str, bytes]:
    made = {"training_file": ("train", rows), "validation_file": ("eval", held)}
    return {
        file: b"".join(_line(row, template, f"`{name}[{place}]`") for place, row in enumerate(some))
        for file, (name, some) in made.items()
        if some
    }


def _line(row: Example | Chat, template: Template, where: str) -> bytes:
    """Convert a row to a conversation, with the template that is used for inference."""
    turns: list[dict[str, object]]
    if isinstance(row, Chat):
        turns = [_turn(message, f"turn {place} of {where}") for place, message in enumerate(row.messages)]
    else:
        asked = in_form(template.prompt((), row.input), chat=True, name="the vendor's model")
        messages = asked.messages if isinstance(asked, Chat) else (Message("user", asked.text),)
        turns = [{"role": turn.role, "content": turn.content} for turn in messages]
        turns.append({"role": "assistant", "content": row.output})
    return json.dumps({"messages": turns}, ensure_ascii=False).encode() + b"\n"


def _turn(message: Message, where: str) -> dict[str, object]:
    if message.role == "tool":
        raise UnsupportedError(f"{where} has the role 'tool', which the vendor takes only with call ids; omit it")
    if message.weight not in {0, 1}:
        raise UnsupportedError(f"{where} has the weight {message.weight:g}; the vendor takes 0 and 1")
    turn: dict[str, object] = {"role": message.role, "content": message.content}
    return turn if message.weight == 1 or message.role != "assistant" else {**turn, "weight": 0}


def _first_number(told: Sequence[dict[str, Any]], name: str) -> float | None:
    """Return the latest value; events are sorted from newest to oldest."""
    values = (event.get(name) for event in told)
    return next((float(v) for v in values if isinstance(v, int | float) and math.isfinite(v)), None)
