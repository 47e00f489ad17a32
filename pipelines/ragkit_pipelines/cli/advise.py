"""The command ``ragkit advise``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Optional

import typer

from ragkit.models.budget import Budget
from ragkit.tasks import Task
from ragkit_pipelines.cli.compare import check_out
from ragkit_pipelines.cli.data import InputField, OutputField, input_of
from ragkit_pipelines.cli.select import console_of_width


def advise(  # noqa: PLR0913 - one option per requirement
    data: Annotated[Path | None, typer.Option(help="Labelled rows to measure the strategies on (optional).")] = None,
    fields: InputField = "input",
    output: OutputField = "output",
    changes: Annotated[str, typer.Option(help="How often facts or answers change: never, monthly, daily.")] = "never",
    per_hour: Annotated[float, typer.Option(help="Number of calls per hour.")] = 10,
    latency_ms: Annotated[Optional[float], typer.Option(help="Maximum latency in milliseconds.")] = None,  # noqa: UP045
    examples: Annotated[int, typer.Option(help="Number of labelled examples, if no data is given.")] = 0,
    model: Annotated[Optional[str], typer.Option(help="Language model, such as smollm2 or tiny.")] = None,  # noqa: UP045
    embedder: Annotated[str, typer.Option(help="Embedder: {embedder}.")] = "minilm",
    trials: Annotated[int, typer.Option(help="Number of settings to try per strategy.")] = 0,
    calls: Annotated[Optional[int], typer.Option(help="Maximum number of calls.")] = None,  # noqa: UP045
    money: Annotated[Optional[float], typer.Option(help="Maximum cost in US dollars.")] = None,  # noqa: UP045
    docs: Annotated[Optional[Path], typer.Option(help="Folder or file to retrieve from.")] = None,  # noqa: UP045
    out: Annotated[Path, typer.Option(help="Folder for results.")] = Path("runs/advise"),
    *,
    behaviour: Annotated[bool, typer.Option(help="The model must learn how to answer.")] = True,
    knowledge: Annotated[bool, typer.Option(help="The model needs facts that it was not trained on.")] = False,
    private: Annotated[bool, typer.Option(help="Data must stay on premises.")] = False,
    strict: Annotated[bool, typer.Option(help="Every answer must follow the format or style.")] = False,
    varied: Annotated[bool, typer.Option(help="Inputs are too diverse for one fixed set of examples.")] = False,
    categories: Annotated[bool, typer.Option(help="Answers come from a fixed list.")] = False,
    long_documents: Annotated[bool, typer.Option(help="Questions are about long documents.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Recommend strategies for a task, and measure them if data is given.

    Example: ragkit advise --data tickets.jsonl --per-hour 1000
    """
    from ragkit_pipelines.advise import Needs
    from ragkit_pipelines.advise import advise as run

    if data is not None:
        check_out(out)
    needs = Needs(
        behaviour=behaviour, knowledge=knowledge, changes=changes, per_hour=per_hour,  # type: ignore[arg-type]
        latency_ms=latency_ms, private=private, strict=strict, varied=varied, categories=categories,
        long_documents=long_documents, examples=examples,
    )  # fmt: skip
    task = None if data is None else Task.from_path(data, input=input_of(fields), output=output)
    advice = run(
        task, needs, model=model, embedder=embedder, trials=trials, documents=docs,
        budget=None if calls is None and money is None else Budget(calls=calls, money=money),
        out=None if data is None else out,
    )  # fmt: skip
    if as_json:
        lists = {name: list(map(asdict, getattr(advice, name))) for name in ("worth", "not_worth", "not_run")}
        typer.echo(json.dumps({"answer": advice.answer, **lists, "caveats": advice.caveats}, indent=1))
        return
    console = console_of_width()
    for title, advised in (
        ("Worth running", advice.worth),
        ("Not worth running", advice.not_worth),
        ("Not run", advice.not_run),
    ):
        for each in advised:
            console.print(f"{title}: {each.strategy} ({each.why})", markup=False)
    for caveat in advice.caveats:
        console.print(f"Note: {caveat}", markup=False)
    if advice.comparison is not None:
        console.print(advice.comparison.table())
    console.print(advice.answer, markup=False)
