"""The command line of fine-tuning: ``ragkit finetune``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from rich.markup import escape
from rich.table import Table

from ragkit.errors import InvalidInputError
from ragkit.extras import require
from ragkit.finetuning import METHODS, OBJECTIVES, FineTuned
from ragkit.finetuning import finetune as run
from ragkit.finetuning.mixing import Mixture, mix
from ragkit.finetuning.rows import Row, read_rows
from ragkit.models import load_model
from ragkit.templates import Template
from ragkit.text import read_json
from ragkit_pipelines.cli.select import console_of_width


def finetune(  # noqa: PLR0913 - the options of the command
    data: Annotated[
        list[Path], typer.Option(help="JSON lines, CSV, or paragraphs of plain text; several files are mixed.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the model; a killed run goes on from it.")],
    model: Annotated[str, typer.Option(help="What to train, such as tiny, hf:<hub id or folder> or minilm.")] = "tiny",
    source: Annotated[str, typer.Option("--input", help="The field that is read as input.")] = "input",
    output: Annotated[str, typer.Option(help="The field that is read as output.")] = "output",
    method: Annotated[str, typer.Option(help=", ".join(METHODS))] = "lora",
    objective: Annotated[str, typer.Option(help=", ".join(OBJECTIVES))] = "completion",
    held_out: Annotated[
        Optional[Path], typer.Option("--eval", help="Rows to watch the loss on; else those of a dev split.")  # noqa: UP045
    ] = None,
    epochs: Annotated[float, typer.Option(help="Passes over the rows.")] = 3,
    learning_rate: Annotated[Optional[float], typer.Option(help="By method and size if not given.")] = None,  # noqa: UP045
    layers: Annotated[int, typer.Option(help="Blocks that last-layers trains.")] = 2,
    max_length: Annotated[Optional[int], typer.Option(help="The most tokens of a row.")] = None,  # noqa: UP045
    patience: Annotated[Optional[int], typer.Option(help="Epochs without gain after which to stop.")] = None,  # noqa: UP045
    instruction: Annotated[str, typer.Option(help="What opens every prompt.")] = "",
    alpha: Annotated[float, typer.Option(help="Shares of several files: 0 equal, 1 as in the data.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of weights and order.")] = 0,
    peft_config: Annotated[Optional[str], typer.Option(help='JSON for the adapter: {"r": 8}.')] = None,  # noqa: UP045
    trainer_config: Annotated[Optional[str], typer.Option(help='JSON for the trainer: {"warmup_steps": 0}.')] = None,  # noqa: UP045
    base_url: Annotated[Optional[str], typer.Option(help="Address of a vendor's server, for --method api.")] = None,  # noqa: UP045
    push_to_hub: Annotated[Optional[str], typer.Option(help="Upload to <user>/<name> when done.")] = None,  # noqa: UP045
    *,
    gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="Less memory, more time.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON.")] = False,
) -> None:
    """Train a model, or load the one that the same command has trained.

    Example: ragkit finetune --data banking77.jsonl --model tiny --out runs/banking --epochs 2
    """
    train, dev = _rows_of(data, objective, source, output, alpha=alpha, seed=seed)
    if held_out is not None:
        dev = read_rows(held_out, objective, input=source, output=output)[0]
    encoder = model == "minilm" or model.startswith(("st:", "hash:"))
    tuned = run(
        model if base_url is None else load_model(model, base_url=base_url), train, method=method,
        objective=objective, eval=None if encoder else dev or None, output_dir=out,
        template=Template(instruction=instruction) if instruction else None, epochs=epochs,
        learning_rate=learning_rate, layers=layers, max_length=max_length, patience=patience,
        gradient_checkpointing=gradient_checkpointing, seed=seed,
        peft_config=None if peft_config is None else _adapter(peft_config, method),
        trainer_config=None if trainer_config is None else _object("--trainer-config", trainer_config),
    )  # fmt: skip
    if push_to_hub is not None:
        typer.echo(tuned.push_to_hub(push_to_hub), err=True)
    if as_json:
        typer.echo(tuned.manifest.model_dump_json(indent=1))
        return
    _show(tuned)


def _rows_of(
    paths: Sequence[Path], objective: str, source: str, output: str, *, alpha: float, seed: int
) -> tuple[Sequence[Row], list[Row]]:
    """Rows to train on, a mixture where there are several files, and those of dev splits."""
    if objective not in OBJECTIVES:
        return [""], []  # the run itself says what was meant
    read = [read_rows(path, objective, input=source, output=output) for path in paths]
    dev = [row for _, rows in read for row in rows]
    if len(paths) == 1:
        return read[0][0], dev
    names = [path.stem for path in paths]
    if len(set(names)) < len(names):
        raise InvalidInputError(f"--data takes files of different names, got {', '.join(names)}")
    mixture: Mixture = mix(dict(zip(names, (rows for rows, _ in read), strict=True)), alpha=alpha, seed=seed)
    return mixture, dev


def _adapter(text: str, method: str) -> Any:
    require("peft")
    from peft import LoraConfig, PromptTuningConfig

    fields = _object("--peft-config", text)
    try:
        if method == "prompt-tuning":
            return PromptTuningConfig(**{"task_type": "CAUSAL_LM", **fields})
        return LoraConfig(**{"task_type": "CAUSAL_LM", "target_modules": "all-linear", **fields})
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"--peft-config is refused by PEFT: {error}") from error


def _object(option: str, text: str) -> dict[str, Any]:
    try:
        value = read_json(text)
    except InvalidInputError as error:
        raise InvalidInputError(f"{option} takes a JSON object, got {text!r}: {error}") from error
    if not isinstance(value, dict):
        raise InvalidInputError(f"{option} takes a JSON object, got {text!r}")
    return value


def _number(value: float | None) -> str:
    return "not known" if value is None else f"{value:.4f}"


def _show(tuned: FineTuned) -> None:
    manifest = tuned.manifest
    rows = manifest.rows
    facts = {
        "rows": f"{rows['kept']} kept, {rows['truncated']} truncated, {rows['dropped']} dropped",
        "epochs": f"{manifest.epochs:g}",
        "loss": _number(manifest.loss) if manifest.eval_loss is None else
        f"{_number(manifest.loss)}, on held-out rows {manifest.eval_loss:.4f}",
        "tokens": f"{manifest.tokens:,}",
        "operations": "not counted" if manifest.flops is None else f"{manifest.flops:.3g}",
        "seconds": f"{manifest.seconds:.1f}",
        "use it": f'load_model("hf:{tuned.folder}")',
    }  # fmt: skip
    table = Table(show_header=False)
    for name, value in facts.items():
        table.add_row(name, escape(value))
    console_of_width().print(table)
