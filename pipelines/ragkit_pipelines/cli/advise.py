"""The command ``ragkit advise``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ragkit.models._budget import Budget
from ragkit.tasks import Task
from ragkit_pipelines.cli.common import (
    ApiKeyEnv,
    BaseUrl,
    Embedder,
    InputField,
    Json,
    MaxCalls,
    MaxMoney,
    MaxReasoningTokens,
    OutputField,
    Reasoning,
    check_out,
    console,
    given_model,
    input_of,
    print_json,
)


def advise(
    data: Annotated[Path | None, typer.Option(help="Labelled rows to measure the strategies on (optional).")] = None,
    fields: InputField = "input",
    output: OutputField = "output",
    changes: Annotated[str, typer.Option(help="How often facts or answers change: never, monthly, daily.")] = "never",
    per_hour: Annotated[float, typer.Option(help="Number of calls per hour.")] = 10,
    latency_ms: Annotated[float | None, typer.Option(help="Maximum latency in milliseconds.")] = None,
    examples: Annotated[int, typer.Option(help="Number of labelled examples, if no data is given.")] = 0,
    model: Annotated[str | None, typer.Option("--model", "-m", help="Language model, such as smollm2 or tiny.")] = None,
    base_url: BaseUrl = None,
    api_key_env: ApiKeyEnv = None,
    reasoning: Reasoning = None,
    max_reasoning_tokens: MaxReasoningTokens = None,
    embedder: Embedder = "minilm",
    trials: Annotated[int, typer.Option(help="Number of settings to try per strategy.")] = 0,
    calls: MaxCalls = None,
    money: MaxMoney = None,
    docs: Annotated[Path | None, typer.Option(help="Folder or file to retrieve from.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for results.")] = Path("runs/advise"),
    *,
    behaviour: Annotated[bool, typer.Option(help="The model must learn how to answer.")] = True,
    knowledge: Annotated[bool, typer.Option(help="The model needs facts that it was not trained on.")] = False,
    private: Annotated[bool, typer.Option(help="Data must stay on premises.")] = False,
    strict: Annotated[bool, typer.Option(help="Every answer must follow the format or style.")] = False,
    varied: Annotated[bool, typer.Option(help="Inputs are too diverse for one fixed set of examples.")] = False,
    categories: Annotated[bool, typer.Option(help="Answers come from a fixed list.")] = False,
    long_documents: Annotated[bool, typer.Option(help="Questions are about long documents.")] = False,
    as_json: Json = False,
) -> None:
    """Recommend strategies for a task, and measure them if data is given.

    Example: ragkit advise --data tickets.jsonl --per-hour 1000
    """
    from ragkit_pipelines.advise import Needs
    from ragkit_pipelines.advise import advise as run
    from ragkit_pipelines.compare import CompareOptions

    if data is not None:
        check_out(out)
    needs = Needs(
        behaviour=behaviour, knowledge=knowledge, changes=changes, per_hour=per_hour,  # type: ignore[arg-type]
        latency_ms=latency_ms, private=private, strict=strict, varied=varied, categories=categories,
        long_documents=long_documents, examples=examples,
    )  # fmt: skip
    task = None if data is None else Task.from_path(data, input=input_of(fields), output=output)
    loaded = given_model(model, base_url, api_key_env, reasoning, max_reasoning_tokens)
    advice = run(
        task, needs, model=loaded, embedder=embedder, options=CompareOptions(trials=trials, documents=docs),
        budget=None if calls is None and money is None else Budget(calls=calls, money=money),
        out=None if data is None else out,
    )  # fmt: skip
    titles = {"worth": "Worth running", "not_worth": "Not worth running", "not_run": "Not run"}
    if as_json:
        lists = {name: list(map(asdict, getattr(advice, name))) for name in titles}
        print_json({"answer": advice.answer, **lists, "caveats": advice.caveats})
        return
    shown = console()
    for name, title in titles.items():
        for each in getattr(advice, name):
            shown.print(f"{title}: {each.strategy} ({each.why})", markup=False)
    for caveat in advice.caveats:
        shown.print(f"Note: {caveat}", markup=False)
    if advice.comparison is not None:
        shown.print(advice.comparison.table())
    shown.print(advice.answer, markup=False)
