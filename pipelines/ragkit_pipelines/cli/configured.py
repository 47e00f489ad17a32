"""Commands whose options take their defaults from the settings file, without code of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.main import get_command

from ragkit.errors import RagkitError
from ragkit_pipelines.cli.common import echo
from ragkit_pipelines.cli.settings_file import NAME, Commands, SettingsFile, options_of

# Options that apply only to models whose loader has a parameter: the others ignore the settings of the file.
_FOR_SOME_MODELS = {
    "base_url": "base_url", "api_key_env": "base_url", "reasoning": "reasoning", "max_reasoning_tokens": "reasoning",
}  # fmt: skip
_FILE = "ragkit settings file"


class Configured:
    """Mixin of commands: adds the option ``--config``, and reads the defaults of the other options from its file.

    The order of precedence is the command line, the file, the built-in default.
    """

    def __init__(self, *args: Any, params: Any = None, callback: Any = None, **settings: Any) -> None:
        """Add the option to those of the command."""
        declared = typer.Typer(add_completion=False)
        declared.command()(_declared)
        added = get_command(declared).params
        super().__init__(*args, params=[*(params or ()), *added], callback=callback, **settings)  # type: ignore[call-arg]
        self.options = {} if callback is None else options_of(callback)

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        """Parse the command line; the file's server and reasoning do not apply to a model that has none."""
        rest = super().parse_args(ctx, args)  # type: ignore[misc]
        for name, parameter in _FOR_SOME_MODELS.items():
            if _from_file(ctx, name) and not _model_has(parameter, ctx.params):
                ctx.params[name] = None
        return rest

    def invoke(self, ctx: Any) -> Any:
        """Report the settings that the file gave, unless a subcommand follows, and run the command."""
        follows = vars(ctx).get("_protected_args") or vars(ctx).get("protected_args")  # the name depends on the version
        keys: dict[str, str] = {}
        for key, option in self.options.items():
            keys.setdefault(option.name, key)  # the first of several spellings
        used = [key for name, key in keys.items() if _from_file(ctx, name) and ctx.params[name] is not None]
        if used and not follows:
            echo(f"settings from {ctx.meta[_FILE]}: {', '.join(used)}", err=True)
        return super().invoke(ctx)  # type: ignore[misc]


def _read(context: typer.Context, value: Path | None) -> Path | None:
    context.default_map = {}
    file = None if context.resilient_parsing else SettingsFile.find(value)
    if file is not None:
        context.meta[_FILE] = file.path
        words: list[str] = []
        at: Any = context
        while at.parent is not None:
            words, at = [at.info_name, *words], at.parent
        context.default_map = file.defaults(words, command_tree(at.command))
    return value


def _declared(
    config: Annotated[
        Path | None,
        typer.Option(
            help=f"Settings file; default: {NAME} of the current folder.",
            callback=_read, is_eager=True, expose_value=False, show_default=False,
        ),
    ] = None,
) -> None:  # fmt: skip
    """Declare the option that all commands have."""


def command_tree(command: Any) -> Commands:
    """Return the options of a command and of its subcommands."""
    below = getattr(command, "commands", {})
    return Commands(getattr(command, "options", {}), {name: command_tree(each) for name, each in below.items()})


def _from_file(ctx: Any, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "DEFAULT_MAP"


def _model_has(parameter: str, params: dict[str, Any]) -> bool:
    """Whether the loader of a command's model has a parameter; all that have ``base_url`` are behind an API."""
    from ragkit.finetuning._manifest import MANIFEST, Manifest
    from ragkit.registry import find

    spec = params.get("other") or params.get("model") or params.get("base")
    if spec is None:
        return False
    folder = Path(spec.removeprefix("hf:"))
    try:
        if spec.startswith("hf:") and (folder / MANIFEST).is_file():
            return Manifest.read(folder).remote is not None
        return parameter in find("model", spec).parameters()
    except (OSError, RagkitError):  # the command reports it
        return False
