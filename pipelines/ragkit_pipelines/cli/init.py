"""The command ``ragkit init``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ragkit.errors import InvalidInputError
from ragkit_pipelines.cli.common import echo
from ragkit_pipelines.cli.settings_file import NAME

TEMPLATE = """# Settings of ragkit: defaults for the options of its commands. Remove "# " in front of a line to set it.
# An option on the command line takes precedence. Relative paths are relative to this file.

# For all commands that have the option:
# model = "smollm2"                  # or "tiny", "hf:<folder>", "openai:<name>"; see `ragkit models`
# embedder = "minilm"                # or "hash:512", which needs no download
# base-url = "http://127.0.0.1:8000/v1"  # an OpenAI-compatible server
# api-key-env = "OPENAI_API_KEY"     # the environment variable with the API key; never write the key itself here
# budget-money = 2.0                 # US dollars per command; also budget-calls and budget-tokens
# data = "data.jsonl"                # rows with an input and an output: JSON Lines, CSV, Excel or Parquet
# input = "input"                    # their fields
# output = "output"
# instruction = "Name the topic of the request."

# For one command. Its options are listed by `ragkit compare --help`.
[compare]
# strategies = ["majority", "tfidf", "zero-shot", "few-shot:bm25"]
# sizes = [100, "all"]
# seeds = [0, 1, 2]
# limit = 200
# out = "runs/first"

[ask]
# docs = "docs"
# k = 5

[pearl.run]
# context = "retrieved"
"""


def init(
    file: Annotated[Path, typer.Argument(help="The file to write.")] = Path(NAME),
) -> None:
    """Write a settings file with the most useful options, all of them commented out.

    Commands read ragkit.toml of the current folder, the file of the environment variable RAGKIT_CONFIG, or that of
    --config. An existing file is never overwritten.

    Example: ragkit init
    """
    try:
        with file.open("x", encoding="utf-8") as new:
            new.write(TEMPLATE)
    except FileExistsError as error:
        raise InvalidInputError(f"{file} already exists; edit it, or pass another file name") from error
    echo(f"Written to {file}. Edit it to set defaults for the options of all commands.")
