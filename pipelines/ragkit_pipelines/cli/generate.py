"""The command ``ragkit generate``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from ragkit._progress import progress
from ragkit._text import read_json
from ragkit.errors import InvalidInputError, RagkitError
from ragkit.finetuning._manifest import MANIFEST, Manifest
from ragkit.models import load_model
from ragkit.models._budget import Budget
from ragkit.models._prompts import prompt_text
from ragkit.models._results import results_of_each
from ragkit.models._sampling import Sampling, schema_of
from ragkit.protocols import AnyPrompt, LanguageModel
from ragkit.records import Chat, Completion, Message, Usage
from ragkit.workers import GenerateTexts
from ragkit_pipelines.cli.common import (
    Adapter,
    ApiKeyEnv,
    BaseUrl,
    Engine,
    MaxCalls,
    MaxMoney,
    MaxReasoningTokens,
    MaxTokens,
    Reasoning,
    Workers,
    echo,
    echo_json,
    print_json,
    worker_pool,
)
from ragkit_pipelines.prompt_files import read_prompts

_GROUP = 64  # prompts per call; the responses of a group are printed before the next group begins


def generate(
    prompt: Annotated[str | None, typer.Argument(help="The prompt; by default it is read from standard input.")] = None,
    file: Annotated[Path | None, typer.Option(help='JSON Lines with "prompt", "messages" or "input".')] = None,
    model: Annotated[
        str, typer.Option("--model", "-m", help="Language model, such as smollm2 or openai:<model>.")
    ] = "tiny",
    adapter: Adapter = None,
    base_url: BaseUrl = None,
    api_key_env: ApiKeyEnv = None,
    reasoning: Reasoning = None,
    max_reasoning_tokens: MaxReasoningTokens = None,
    system: Annotated[str | None, typer.Option(help="System message.")] = None,
    max_tokens: Annotated[int, typer.Option(help="Maximum number of tokens per response.")] = 256,
    temperature: Annotated[float, typer.Option(help="Sampling temperature; 0 for greedy decoding.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of the sampling.")] = 0,
    stop: Annotated[list[str] | None, typer.Option(help="Stop sequence; can be repeated.")] = None,
    schema: Annotated[Path | None, typer.Option(help="File with the JSON schema that responses must follow.")] = None,
    choices: Annotated[str | None, typer.Option(help="Allowed responses, separated by commas.")] = None,
    grammar: Annotated[
        Path | None, typer.Option(help="File with the grammar that responses must follow, in Lark's notation.")
    ] = None,
    cache: Annotated[Path | None, typer.Option(help="File in which responses are cached.")] = None,
    concurrency: Annotated[int | None, typer.Option(help="Maximum number of concurrent calls.")] = None,
    budget_calls: MaxCalls = None,
    budget_tokens: MaxTokens = None,
    budget_money: MaxMoney = None,
    budget_seconds: Annotated[float | None, typer.Option(help="Seconds after which no new call begins.")] = None,
    engine: Engine = "inline",
    workers: Workers = 2,
    *,
    stream: Annotated[bool, typer.Option("--stream", help="Print the response while it is generated.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, including token usage and cost.")] = False,
) -> None:
    """Generate the response to one prompt, or to each prompt of a file.

    With --file, every response is printed as one line of JSON.

    Example: ragkit generate "Input: dim the lamp" --max-tokens 20
    Example: ragkit generate --file prompts.jsonl --engine process --workers 4 --cache answers.sqlite
    """
    limits = {"calls": budget_calls, "tokens": budget_tokens, "money": budget_money, "seconds": budget_seconds}
    limited = any(limit is not None for limit in limits.values())
    budget = Budget(**limits)  # type: ignore[arg-type]
    prompts, stops = _read_input(prompt, file, system, model)
    sampling = Sampling(
        max_tokens=max_tokens,
        temperature=temperature,
        stop=tuple(stop) if stop else stops,
        seed=seed,
        schema=None if schema is None else schema_of(_read_schema(schema)),
        choices=None if choices is None else tuple(part.strip() for part in choices.split(",")),
        grammar=None if grammar is None else _read_grammar(grammar),
    )
    pool, cached = worker_pool(engine, workers), None if cache is None else str(cache)
    if pool is not None:
        if file is None or stream or limited or concurrency is not None:
            raise InvalidInputError(
                "--engine requires --file, and does not support --stream, --concurrency or a budget"
            )
        work = GenerateTexts(
            model=model, sampling=sampling, adapter=adapter, base_url=base_url, api_key_env=api_key_env, cache=cached,
            reasoning=reasoning, max_reasoning_tokens=max_reasoning_tokens,
        )  # fmt: skip
        _print_lines(prompts, work.results(prompts, pool, batch_size=_GROUP))
        return
    loaded = load_model(
        model, adapter=adapter, base_url=base_url, api_key_env=api_key_env, cache=cached, concurrency=concurrency,
        budget=budget if limited else None, reasoning=reasoning, max_reasoning_tokens=max_reasoning_tokens,
    )  # fmt: skip
    if stream:
        if file is not None or as_json:
            raise InvalidInputError("--stream requires a single prompt and text output; omit --file and --json")
        _print_stream(loaded, prompts[0], sampling)
    elif file is not None:
        groups = (prompts[start : start + _GROUP] for start in range(0, len(prompts), _GROUP))
        _print_lines(prompts, (results_of_each(loaded, group, sampling) for group in groups))
    else:
        with progress("generating", None):
            response = loaded.generate(prompts[0], **sampling.options())
        if as_json:
            print_json(_facts(response))
        else:
            echo(response.text)


def _read_input(
    prompt: str | None, file: Path | None, system: str | None, model: str
) -> tuple[list[AnyPrompt], tuple[str, ...]]:
    """Return the prompts, and the stop sequences that belong to them."""
    if file is not None:
        if prompt is not None or system is not None:
            raise InvalidInputError(
                "--file cannot be combined with a prompt or --system; write both into the file as messages"
            )
        # A fine-tuned model is prompted with the template that it was trained with.
        folder = Path(model.removeprefix("hf:"))
        read = read_prompts(file, Manifest.read(folder).template if (folder / MANIFEST).is_file() else None)
        return read.prompts, read.stop
    if prompt is None:
        if sys.stdin.isatty():
            raise InvalidInputError("there is no prompt; pass it as an argument, on standard input or with --file")
        prompt = sys.stdin.read()
        if not prompt.strip():
            raise InvalidInputError(
                "standard input is empty; pass the prompt as an argument, on standard input or with --file"
            )
    return [prompt if system is None else Chat((Message("system", system), Message("user", prompt)))], ()


def _read_schema(path: Path) -> Mapping[str, object]:
    try:
        schema = read_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InvalidInputError(
            f"--schema must be a file with a JSON schema; {path} cannot be read: {error}"
        ) from error
    if not isinstance(schema, dict):
        raise InvalidInputError(f"--schema must be a file with a JSON object; {path} contains {type(schema).__name__}")
    return schema


def _read_grammar(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"--grammar must be a text file; {path} cannot be read: {error}") from error


def _print_stream(model: LanguageModel, prompt: AnyPrompt, sampling: Sampling) -> None:
    if sampling.schema is not None or sampling.choices is not None:
        raise InvalidInputError("--stream cannot be combined with --schema or --choices")
    for piece in model.stream(prompt, **sampling.options()):
        echo(piece, nl=False)
        sys.stdout.flush()
    echo()


def _print_lines(prompts: Sequence[AnyPrompt], groups: Iterable[list[Completion | RagkitError]]) -> None:
    """Print one line per prompt, in order; a prompt that fails does not affect the others."""
    results: list[Completion | RagkitError] = []
    with progress("generating", len(prompts)) as advance:
        for group in groups:
            for prompt, result in zip(prompts[len(results) :], group, strict=False):
                echo_json(json.dumps({"prompt": prompt_text(prompt), **_facts(result)}, ensure_ascii=False))
            sys.stdout.flush()
            results += group
            advance(len(group))
    responses = [result for result in results if isinstance(result, Completion)]
    failed = len(results) - len(responses)
    echo(_summary(responses, failed), err=True)
    if failed:
        sys.exit(1)


def _facts(result: Completion | RagkitError) -> dict[str, Any]:
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


def _summary(responses: Sequence[Completion], failed: int) -> str:
    usage = sum((each.usage for each in responses), Usage())
    known = [each.paid for each in responses if each.paid is not None]
    money = f"${sum(known):.6g}" if len(known) == len(responses) else "cost unknown"
    return (
        f"{len(responses)} responses ({sum(each.cached for each in responses)} cached), {failed} failed; "
        f"{usage.prompt_tokens:,} prompt tokens, {usage.completion_tokens:,} completion tokens, {money}"
    )
