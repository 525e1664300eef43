"""Settings as options of the command line; presets, which the command line overrides."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
from click.shell_completion import CompletionItem

from fedsim.cli.command import PATH, Command, ThemedOption, in_a_sentence
from fedsim.data.partition import PARTITIONS, SPLIT_FILE
from fedsim.errors import SettingsError
from fedsim.options import flag, switch
from fedsim.own_code import check_said
from fedsim.record.run_directory import START_FILE
from fedsim.settings import compatible
from fedsim.settings.conversion import LISTS, PATHS, TABLES, read_name, type_name
from fedsim.settings.fields import FLAGGED, Settings, read_settings
from fedsim.system.console import LOG
from fedsim.system.paths import read_path

HELP = """Train one segmentation network from many cars that never share their pictures.

Ranks are started by torchrun: torchrun --nproc_per_node=4 -m fedsim.main --algo admm. Without it, one rank
plays all cars."""
EXAMPLES = {"option": "kappa=0.5", "model_option": "encoder_name=resnet18", "loss_option": "gamma=1"}
PLAIN = {"int": "N", "float": "X", "str": "TEXT"}
TYPES = {"int": click.INT, "float": click.FLOAT, "str": click.STRING}
DECIDING = {"algo", "partition", "aggregator", "server_optimizer"}  # settings that decide which others are read


class Asked(NamedTuple):
    """The settings that a command line asks for."""

    settings: Settings
    given: dict[str, Any]  # only those that the command line or its preset names


def parse(arguments: Sequence[str]) -> Asked | None:
    """Read a command line; return None if it asks for help alone. Raises SettingsError."""
    try:
        values = command().main(list(arguments), prog_name="python -m fedsim.main", standalone_mode=False)
    except click.ClickException as error:
        raise SettingsError(in_a_sentence(error)) from error
    return read_options(values) if isinstance(values, dict) else None


def read_options(values: dict[str, Any], algos: Sequence[str] = ()) -> Asked:
    """Return the settings that the values of options ask for; an option with the value None was not given.

    The option `config` may name a preset. algos: the algorithms that are played instead of the preset's own; the preset
    keeps the settings that one of them reads. Raises SettingsError.
    """
    preset = values.pop("config")
    given = {name: value for name, value in values.items() if value not in (None, ())}
    given |= _read_named(given)
    if preset is None:
        return Asked(Settings(**given), given)
    path = Path(preset)
    try:
        loaded = read_settings(path)
    except OSError as error:
        raise SettingsError(f"--config {path}: cannot read it ({error.strerror})") from error
    except ValueError as error:
        raise SettingsError(f"--config {path}: not a TOML file ({error})") from error
    settings = Settings.from_values(_overridden(loaded, given), origin=f"--config {path}")
    check_said(settings, given, f"--config {path}")
    if loaded.get("partition") not in (None, *PARTITIONS) and "partition" not in given:
        split = Path(read_path(loaded["partition"], f"--config {path}: --partition"))
        loaded |= {"partition": str(_beside(path, split, SPLIT_FILE))}
    if "init" in loaded and "init" not in given:
        start = Path(read_path(loaded["init"], f"--config {path}: --init"))
        loaded |= {"init": str(_beside(path, start, START_FILE))}
    loaded = _fitting(loaded, given, [given | {"algo": algo} for algo in algos] or [given], path)
    asked = _overridden(loaded, given)
    return Asked(Settings.from_values(asked, origin=f"--config {path}"), asked)


def _overridden(loaded: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Return a preset's settings with those of the command line in their place. Options are replaced one by one."""
    tables = {name: loaded[name] | given[name] for name in TABLES if isinstance(loaded.get(name), dict)
              and given.get(name)}
    return loaded | given | tables


def _fitting(loaded: dict[str, Any], given: dict[str, Any], played: Sequence[dict[str, Any]],
             path: Path) -> dict[str, Any]:
    """Return a preset without the settings that nothing reads beside those of the command line, and say which.

    played: the settings of the command line with each algorithm that is played.
    """
    unread = compatible.unread(loaded, given)
    fitted = {name: value for name, value in loaded.items() if name not in unread}
    if given.keys() & DECIDING:
        read: dict[str, Any] = {}
        for asked in played:
            read = _overridden(read, compatible.fitting(fitted, asked))
        fitted = {name: read[name] if name == "option" else value for name, value in fitted.items() if name in read}
    if left_out := [flag(name) for name in loaded if name not in fitted]:
        LOG.info("--config %s: %s left out, because it does not go with the other options", path, ", ".join(left_out))
    return fitted


def _beside(config: Path, named: Path, copy: str) -> Path:
    """Return a file that a preset names, or the run's copy beside the preset: a run may have been moved."""
    own = config.parent / copy
    return own if own.exists() and not named.exists() else named


def command() -> click.Command:
    """Make the command from the fields of Settings. An option that is not given is None: a preset may set it."""
    names = [setting.name for setting in dataclasses.fields(Settings)]
    return Command("fedsim", params=setting_options(names), callback=lambda **values: values, help=HELP)


def setting_options(names: Collection[str]) -> list[click.Parameter]:
    """Return the options of these settings, and --config."""
    options: list[click.Parameter] = [_option(setting) for setting in dataclasses.fields(Settings)
                                      if setting.name in names]
    options.append(ThemedOption("--config", theme="Machine", type=PATH, default=None, metavar="FILE",
                          help="TOML file of settings, such as a run directory's config.toml."))
    return options


def _option(setting: "dataclasses.Field[Any]") -> ThemedOption:
    text, theme, choices = (setting.metadata[key] for key in ("help", "theme", "choices"))
    kind = type_name(setting.type).removesuffix(" | None")
    if kind == "bool":
        return ThemedOption(f"{switch(setting.name, True)}/{switch(setting.name, False)}", theme=theme, default=None,
                            help=f"{text}  [default: {'on' if setting.default else 'off'}]")
    if setting.default not in (None, dataclasses.MISSING):
        text += f"  [default: {setting.default}]"
    words = choices or setting.metadata["suggests"]

    def complete(context: click.Context, option: click.Parameter, begun: str) -> list[CompletionItem]:
        return [CompletionItem(word) for word in words if word.startswith(begun)]

    return ThemedOption(flag(setting.name), theme=theme, default=None, help=text,
                  multiple=setting.name in (*TABLES, *LISTS),
                  type=PATH if setting.name in PATHS else TYPES.get(kind, click.STRING),
                  shell_complete=complete if words else None,
                  metavar="|".join(choices) or setting.metadata["metavar"] or PLAIN[kind])


def _read_named(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that `--option NAME=VALUE` and the other options of this form set.

    An option of a method that has a flag is set by name, the others are in the table `option`. Raises SettingsError.
    """
    tables = {table: read_table(table, given[table]) for table in TABLES if table in given}
    found = tables.get("option", {})
    if twice := next((name for name in found if name in FLAGGED and given.get(name) is not None), None):
        raise SettingsError(f"--option {twice} is given twice; give it once")
    with_flag = {name: value for name, value in found.items() if name in FLAGGED}
    if "option" in tables:
        tables["option"] = {name: value for name, value in found.items() if name not in FLAGGED}
    return with_flag | tables


def read_table(table: str, texts: Sequence[str]) -> dict[str, str]:
    """Return the values by name of an option that is given as NAME=VALUE, several times. Raises SettingsError."""
    found: dict[str, str] = {}
    for text in texts:
        _, equals, value = text.partition("=")
        name = read_name(text)
        if not (name and equals):
            raise SettingsError(f"{flag(table)} is {text!r}; write NAME=VALUE, e.g. {flag(table)} {EXAMPLES[table]}")
        if name in found:
            raise SettingsError(f"{flag(table)} {name} is given twice; give it once")
        found[name] = value
    return found
