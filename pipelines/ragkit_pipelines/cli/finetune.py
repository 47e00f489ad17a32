"""The command ``ragkit finetune``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ragkit._extras import require
from ragkit.errors import InvalidInputError
from ragkit.finetuning import METHODS, OBJECTIVES, FineTuned
from ragkit.finetuning import finetune as run
from ragkit.finetuning._mixing import mix
from ragkit.finetuning._rows import Row, read_rows
from ragkit.templates import Template
from ragkit_pipelines.cli.common import ApiKeyEnv, Json, echo, echo_json, given_model, json_object, print_table


def finetune(
    data: Annotated[list[Path], typer.Option(help="JSON Lines, CSV or text file; can be repeated.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the model; rerun the command to resume.")],
    model: Annotated[
        str, typer.Option("--model", "-m", help="Model to train: tiny, hf:<hub id or folder> or an embedder.")
    ] = "tiny",
    source: Annotated[str, typer.Option("--input", help="Field of the input.")] = "input",
    output: Annotated[str, typer.Option(help="Field of the output.")] = "output",
    method: Annotated[str, typer.Option(help=f"Fine-tuning method: {', '.join(METHODS)}.")] = "lora",
    objective: Annotated[str, typer.Option(help=f"Training objective: {', '.join(OBJECTIVES)}.")] = "completion",
    held_out: Annotated[Path | None, typer.Option("--eval", help="Held-out rows; by default the dev split.")] = None,
    epochs: Annotated[float, typer.Option(help="Number of epochs.")] = 3,
    learning_rate: Annotated[float | None, typer.Option(help="Learning rate; by default set by the method.")] = None,
    layers: Annotated[int, typer.Option(help="Number of layers that last-layers trains.")] = 2,
    max_length: Annotated[int | None, typer.Option(help="Maximum number of tokens per row.")] = None,
    patience: Annotated[int | None, typer.Option(help="Stop after this many epochs without improvement.")] = None,
    instruction: Annotated[str, typer.Option(help="Instruction at the start of every prompt.")] = "",
    alpha: Annotated[float, typer.Option(help="Mixture of files: 0 for equal shares, 1 for shares by size.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of the initial weights and of the order of rows.")] = 0,
    peft_config: Annotated[str | None, typer.Option(help='PEFT settings as JSON: {"r": 8}.')] = None,
    trainer_config: Annotated[str | None, typer.Option(help='Trainer settings as JSON: {"warmup_steps": 0}.')] = None,
    base_url: Annotated[str | None, typer.Option(help="Base URL of the provider, for --method api.")] = None,
    api_key_env: ApiKeyEnv = None,
    push_to_hub: Annotated[str | None, typer.Option(help="Upload the model to this hub repository: user/name.")] = None,
    *,
    gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="Use less memory, but more time.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="With --method api, train without showing the expected cost first.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Fine-tune a model on input and output rows, plain text or preference pairs.

    If the same command has already finished, the trained model is loaded instead.

    Example: ragkit finetune --data banking77.jsonl --model tiny --out runs/banking --epochs 2
    """
    train, dev = _read_data(data, objective, source, output, alpha=alpha, seed=seed)
    if held_out is not None:
        dev = read_rows(held_out, objective, input=source, output=output)[0]
    encoder = model == "minilm" or model.startswith(("st:", "hash:"))
    template = Template(instruction=instruction) if instruction else None
    loaded = given_model(model, base_url, api_key_env) or model
    if method == "api" and not yes:
        _confirm_cost(loaded, train, template, epochs, out)
    tuned = run(
        loaded, train, method=method,
        objective=objective, eval=None if encoder else dev or None, output_dir=out,
        template=template, epochs=epochs,
        learning_rate=learning_rate, layers=layers, max_length=max_length, patience=patience,
        gradient_checkpointing=gradient_checkpointing, seed=seed,
        peft_config=None if peft_config is None else _peft_config(peft_config, method),
        trainer_config=None if trainer_config is None else
        json_object("--trainer-config", trainer_config, '{"warmup_steps": 0}'),
    )  # fmt: skip
    if push_to_hub is not None:
        echo(tuned.push_to_hub(push_to_hub), err=True)
    if as_json:
        echo_json(tuned.manifest.model_dump_json(indent=1))
        return
    _show(tuned)
    if method == "api":
        from ragkit.finetuning import finetuning_checkpoints

        found = finetuning_checkpoints(out, base_url=base_url)
        losses = [["" if loss is None else f"{loss:.4f}" for loss in (each.loss, each.eval_loss)] for each in found]
        if found:
            rows = [[str(each.step), each.model, *pair] for each, pair in zip(found, losses, strict=True)]
            print_table(("step", "checkpoint", "loss", "loss on held-out rows"), rows)


def _confirm_cost(model: object, train: Sequence[Row], template: Template | None, epochs: float, out: Path) -> None:
    """Show the expected cost of training at a vendor, and ask whether to begin; a job in progress costs nothing more.

    Raises:
        InvalidInputError: If nobody can be asked.
        typer.Exit: If the answer is no.
    """
    from ragkit.finetuning import estimate_finetuning
    from ragkit.finetuning._remote import has_job

    if has_job(out):
        return
    found = estimate_finetuning(model, train, epochs=int(epochs), template=template)
    cost = "an unknown price" if found.cost is None else f"${found.cost:.2f}"
    expected = f"{found.rows:,} rows, {found.epochs} epochs, about {found.tokens:,} training tokens: {cost}"
    if not sys.stdin.isatty():
        raise InvalidInputError(f"--method api costs money ({expected}); pass --yes to upload the data and train")
    if not typer.confirm(f"{expected}. Upload the data and train?", err=True):
        raise typer.Exit(1)


def _read_data(
    paths: Sequence[Path], objective: str, source: str, output: str, *, alpha: float, seed: int
) -> tuple[Sequence[Row], list[Row]]:
    """Read the training rows, mixed if there are several files, and the rows of their dev splits."""
    if objective not in OBJECTIVES:
        return [""], []  # `finetune` rejects the objective, and names the known ones
    read = [read_rows(path, objective, input=source, output=output) for path in paths]
    dev = [row for _, rows in read for row in rows]
    if len(paths) == 1:
        return read[0][0], dev
    names = [path.stem for path in paths]
    if len(set(names)) < len(names):
        raise InvalidInputError(f"--data must be files with different names, got {', '.join(names)}")
    return mix(dict(zip(names, (rows for rows, _ in read), strict=True)), alpha=alpha, seed=seed), dev


def _peft_config(text: str, method: str) -> Any:
    require("peft")
    from peft import LoraConfig, PromptTuningConfig

    fields = {"task_type": "CAUSAL_LM", **json_object("--peft-config", text, '{"r": 8}')}
    try:
        if method == "prompt-tuning":
            return PromptTuningConfig(**fields)
        return LoraConfig(**{"target_modules": "all-linear", **fields})
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"--peft-config was rejected by PEFT: {error}") from error


def _show(tuned: FineTuned) -> None:
    manifest, rows = tuned.manifest, tuned.manifest.rows
    loss = "unknown" if manifest.loss is None else f"{manifest.loss:.4f}"
    print_table((), {
        "rows": f"{rows['kept']} used, {rows['truncated']} truncated, {rows['dropped']} dropped",
        "epochs": f"{manifest.epochs:g}",
        "loss": loss if manifest.eval_loss is None else f"{loss}, on held-out rows {manifest.eval_loss:.4f}",
        "tokens": f"{manifest.tokens:,}",
        "FLOPs": "not counted" if manifest.flops is None else f"{manifest.flops:.3g}",
        "seconds": f"{manifest.seconds:.1f}",
        "usage": f'load_model("hf:{tuned.folder}")',
    }.items())  # fmt: skip
