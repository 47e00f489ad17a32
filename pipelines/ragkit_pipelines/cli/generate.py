"""The command line of language models: ``ragkit generate``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from ragkit.errors import InvalidInputError, RagkitError
from ragkit.models import load_model
from ragkit.models.budget import Budget
from ragkit.models.prompts import prompt_text
from ragkit.models.results import results_of_each
from ragkit.models.sampling import Sampling, schema_of
from ragkit.progress import progress
from ragkit.protocols import AnyPrompt, LanguageModel
from ragkit.records import Chat, Completion, Message, Usage
from ragkit.templates import Template
from ragkit.text import read_json
from ragkit.workers import GenerateTexts
from ragkit_pipelines.cli.index import pool_of
from ragkit_pipelines.prompt_files import read_prompts

_GROUP = 64  # prompts whose answers are written before more are asked for
_Text = Optional[str]  # noqa: UP045
_Number = Optional[int]  # noqa: UP045
_Amount = Optional[float]  # noqa: UP045


def generate(  # noqa: PLR0913 - the options of the command
    prompt: Annotated[_Text, typer.Argument(help="The prompt; read from standard input if not given.")] = None,
    file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help='JSON lines: {"prompt": …}, {"messages": […]} or {"input": …}; answers are JSON lines.'),
    ] = None,
    model: Annotated[str, typer.Option(help="Such as smollm2, gguf:<file>, hf:<folder> or openai:<model>.")] = "tiny",
    adapter: Annotated[_Text, typer.Option(help="Folder of a PEFT adapter.")] = None,
    base_url: Annotated[_Text, typer.Option(help="Address of an OpenAI-compatible server.")] = None,
    system: Annotated[_Text, typer.Option(help="What the model is told before the prompt.")] = None,
    max_tokens: Annotated[int, typer.Option(help="Tokens of an answer at the most.")] = 256,
    temperature: Annotated[float, typer.Option(help="0 for the likeliest token each time.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of the sampling.")] = 0,
    stop: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="Where an answer ends; several times for several."),
    ] = None,
    schema: Annotated[Optional[Path], typer.Option(help="JSON schema that answers must follow.")] = None,  # noqa: UP045
    choices: Annotated[_Text, typer.Option(help="What answers must be one of, separated by commas.")] = None,
    cache: Annotated[_Text, typer.Option(help="File of answers; none that is in it is asked for again.")] = None,
    concurrency: Annotated[_Number, typer.Option(help="Calls under way at once.")] = None,
    budget_calls: Annotated[_Number, typer.Option(help="Calls at the most.")] = None,
    budget_tokens: Annotated[_Number, typer.Option(help="Tokens at the most.")] = None,
    budget_money: Annotated[_Amount, typer.Option(help="US dollars at the most.")] = None,
    budget_seconds: Annotated[_Amount, typer.Option(help="Seconds in which calls may begin.")] = None,
    engine: Annotated[
        str, typer.Option(help="Where the prompts of a file are answered: inline, process or ray.")
    ] = "inline",
    workers: Annotated[int, typer.Option(help="Workers, where the engine is process or ray.")] = 2,
    *,
    stream: Annotated[bool, typer.Option("--stream", help="Print the answer while it is written.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON with tokens and cost.")] = False,
) -> None:
    """Ask a model: one prompt, or a file of them.

    Example: ragkit generate "Input: dim the lamp" --max-tokens 20
    Example: ragkit generate --file prompts.jsonl --engine process --workers 4 --cache answers.sqlite
    """
    limits = (budget_calls, budget_tokens, budget_money, budget_seconds)
    budget = Budget(calls=budget_calls, tokens=budget_tokens, money=budget_money, seconds=budget_seconds)
    prompts, stops = _prompts_of(prompt, file, system, model)
    sampling = Sampling(
        max_tokens=max_tokens,
        temperature=temperature,
        stop=tuple(stop) if stop else stops,
        seed=seed,
        schema=None if schema is None else schema_of(_read_schema(schema)),
        choices=None if choices is None else tuple(part.strip() for part in choices.split(",")),
    )
    pool = pool_of(engine, workers)
    if pool is not None:
        _check_for_workers(file, stream, *(limit is not None for limit in (concurrency, *limits)))
        work = GenerateTexts(model=model, sampling=sampling, adapter=adapter, base_url=base_url, cache=cache)
        _print_lines(prompts, work.results(prompts, pool, batch_size=_GROUP))
        return
    loaded = load_model(
        model,
        adapter=adapter,
        base_url=base_url,
        cache=cache,
        concurrency=concurrency,
        budget=None if all(limit is None for limit in limits) else budget,
    )
    if stream:
        _print_stream(loaded, prompts, sampling, one=file is None and not as_json)
    elif file is not None:
        groups = (prompts[start : start + _GROUP] for start in range(0, len(prompts), _GROUP))
        _print_lines(prompts, (results_of_each(loaded, some, sampling) for some in groups))
    else:
        with progress("answering", None):
            answer = loaded.generate(prompts[0], **sampling.options())
        typer.echo(json.dumps(_as_json(answer), ensure_ascii=False, indent=1) if as_json else answer.text)


def _check_for_workers(file: Path | None, *of_one_process: object) -> None:
    if file is None or any(of_one_process):
        raise InvalidInputError(
            "--engine goes with --file, and without --stream, --concurrency and a budget, which one process keeps"
        )


def _prompts_of(
    prompt: str | None, file: Path | None, system: str | None, model: str
) -> tuple[list[AnyPrompt], tuple[str, ...]]:
    """What is asked, and where answers end."""
    if file is not None:
        if prompt is not None or system is not None:
            raise InvalidInputError("--file goes without a prompt and --system; put both into its lines as messages")
        asked = read_prompts(file, _template_of(model))
        return asked.prompts, asked.stop
    if prompt is None:
        if sys.stdin.isatty():
            raise InvalidInputError("there is no prompt; give it as an argument, on standard input or with --file")
        prompt = sys.stdin.read()
        if not prompt.strip():
            raise InvalidInputError("standard input is empty; give a prompt as an argument, there or with --file")
    if system is None:
        return [prompt], ()
    return [Chat((Message("system", system), Message("user", prompt)))], ()


def _template_of(model: str) -> Template | None:
    """The template in which a fine-tuned model was trained."""
    from ragkit.finetuning.manifest import MANIFEST, Manifest

    folder = Path(model.removeprefix("hf:"))
    return Manifest.read(folder).template if (folder / MANIFEST).is_file() else None


def _read_schema(path: Path) -> Mapping[str, object]:
    try:
        schema = read_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"--schema takes a file with a JSON schema; {path} cannot be read: {error}") from error
    if not isinstance(schema, dict):
        raise InvalidInputError(f"--schema takes a file with a JSON object, {path} holds a {type(schema).__name__}")
    return schema


def _print_stream(model: LanguageModel, prompts: Sequence[AnyPrompt], sampling: Sampling, *, one: bool) -> None:
    if not one:
        raise InvalidInputError("--stream goes with one prompt and text; leave out --file and --json")
    if sampling.schema is not None or sampling.choices is not None:
        raise InvalidInputError("--stream goes without --schema and --choices")
    for piece in model.stream(prompts[0], **sampling.options()):
        typer.echo(piece, nl=False)
        sys.stdout.flush()
    typer.echo()


def _print_lines(prompts: Sequence[AnyPrompt], found: Iterable[list[Completion | RagkitError]]) -> None:
    """Print a line for each prompt, in order; some errors do not keep the others from their answers."""
    results: list[Completion | RagkitError] = []
    with progress("asking", len(prompts)) as advance:
        for some in found:
            for asked, result in zip(prompts[len(results) :], some, strict=False):
                typer.echo(json.dumps({"prompt": prompt_text(asked), **_as_json(result)}, ensure_ascii=False))
            sys.stdout.flush()
            results += some
            advance(len(some))
    answers = [result for result in results if isinstance(result, Completion)]
    typer.echo(_summary(answers, failed=len(results) - len(answers)), err=True)
    if len(answers) < len(results):
        sys.exit(1)


def _as_json(result: Completion | RagkitError) -> dict[str, Any]:
    if not isinstance(result, Completion):
        return {"error": str(result), "kind": type(result).__name__}
    return {
        "text": result.text,
        "finish_reason": result.finish_reason,
        "usage": asdict(result.usage),
        "cost": result.cost,
        "seconds": round(result.seconds, 6),
        "cached": result.cached,
        "attempts": result.attempts,
    }


def _summary(answers: Sequence[Completion], *, failed: int) -> str:
    usage = sum((answer.usage for answer in answers), Usage())
    paid = [answer.paid for answer in answers]
    known = [amount for amount in paid if amount is not None]
    money = f"${sum(known):.6g}" if len(known) == len(paid) else "cost unknown"
    cached = sum(answer.cached for answer in answers)
    return (
        f"{len(answers)} answers ({cached} from the cache), {failed} without one; "
        f"{usage.prompt_tokens:,} tokens read, {usage.completion_tokens:,} written, {money}"
    )
