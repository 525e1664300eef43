"""The base of all commands: options by theme, --quiet and --verbose, mistakes in one sentence."""

import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

import click
from click.shell_completion import CompletionItem

from fedsim.errors import MachineError
from fedsim.system.console import LOG
from fedsim.system.paths import read_path

WIDE = {"max_content_width": 120}  # columns of help, if the terminal has so many
TRUST = ("Network of your own that the model may import, as it was named in training; it runs with all your rights. "
         "May be given several times.")
LOUDNESS = {"--quiet": logging.WARNING, "--verbose": logging.DEBUG}


class PathType(click.ParamType):
    """A path, which a shell completes to files. It is read by `read_path`, and checked where it is opened."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        assert param is not None, "paths are options and arguments"
        name = param.opts[0] if isinstance(param, click.Option) else param.human_readable_name.strip("[].")
        return read_path(value, name)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(incomplete, type="file")]


PATH = PathType()


def trust_option() -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the option `trust`, a tuple of the networks of a user's own that a command may import."""
    return click.option("--trust", multiple=True, metavar="MODULE:NAME", help=TRUST)


def view_options() -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the options that say how a trained network is shown pictures; None stands for the run's own value."""
    options = (
        click.option("--test-scales", metavar="X,X", help="Scales of the copies of a picture that the network sees, "
                     "e.g. 0.75,1,1.25; the mean of their probabilities counts.  [default: as its run was scored]"),
        click.option("--test-flip/--no-test-flip", default=None, help="Show each copy mirrored as well.  [default: as "
                     "its run was scored]"),
        click.option("--tile", metavar="WIDTHxHEIGHT", help="Largest part of a picture that the network sees at a "
                     "time; larger pictures are put together from parts that overlap.  [default: as its run was "
                     "scored]"))

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def options_given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that were given: their values are not None."""
    return {name: value for name, value in options.items() if value is not None}


class ThemedOption(click.Option):
    """An option that knows its theme."""

    def __init__(self, *names: str, theme: str, **attributes: Any) -> None:
        super().__init__(list(names), **attributes)
        self.theme = theme


class Command(click.Command):
    """A command whose help groups options by theme, and which has --quiet and --verbose."""

    def __init__(self, name: str | None, *, params: list[click.Parameter] | None = None, **attributes: Any) -> None:
        super().__init__(name, params=[*(params or []), *_loudness()], context_settings=WIDE, **attributes)

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        themes: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(context):
            record = parameter.get_help_record(context)
            if record:
                theme = getattr(parameter, "theme", "Help" if "--help" in parameter.opts else "Options")
                themes.setdefault(theme, []).append(record)
        for theme, records in themes.items():
            with formatter.section(theme):
                formatter.write_dl(records)


def in_a_sentence(error: click.ClickException) -> str:
    """Return a mistake on the command line as a sentence of fedsim's own kind."""
    if isinstance(error, click.NoSuchOption):
        near = f" (did you mean {' or '.join(error.possibilities)}?)" if error.possibilities else ""
        return f"there is no option {error.option_name}{near}; --help lists all options"
    text = " ".join(error.format_message().split()).rstrip(".")
    return f"{text[:1].lower()}{text[1:]}; --help shows how to use the command"


def refuse_torchrun(command: str) -> bool:
    """Return True on all ranks but the first of a launch by torchrun; on the first, raise MachineError.

    A command that starts ranks itself would play the same runs once for each of torchrun's ranks.
    """
    if not os.environ.get("TORCHELASTIC_RUN_ID"):
        return False
    if os.environ.get("RANK", "0").lstrip("0").isdigit():  # a rank that is not the first
        return True
    raise MachineError(f"fedsim {command} starts ranks itself and cannot be started by torchrun: leave torchrun out, "
                       "or start torchrun --nproc_per_node=N -m fedsim.main")


def loudness() -> list[str]:
    """Return the options that make another fedsim as loud as this one."""
    return [name for name, level in LOUDNESS.items() if LOG.level == level]


def _loudness() -> list[click.Parameter]:
    def set_level(context: click.Context, option: click.Parameter, given: bool) -> None:
        if given:
            LOG.setLevel(LOUDNESS[option.opts[0]])

    what = {"--quiet": "Print only warnings, errors and the result.", "--verbose": "Print details as well."}
    return [ThemedOption(name, theme="Help", is_flag=True, expose_value=False, callback=set_level, help=what[name])
            for name in LOUDNESS]
