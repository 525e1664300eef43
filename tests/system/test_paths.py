"""Paths as users write them, at every door."""

import getpass
import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from commandline import parse

import fedsim
from fedsim.cli import commands
from fedsim.cli.command import PathType
from fedsim.data.cache_entries import cache_folder
from fedsim.data.datasets import default_root
from fedsim.errors import SettingsError, UserError
from fedsim.system.paths import path_from_environment, read_path


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A home directory; the current folder is another one."""
    (tmp_path / "home").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "home"


@pytest.mark.parametrize(("text", "path"), [
    ("~", ""), ("~/", ""), ("~/a/b", "/a/b"), ("~//a", "/a"), ("~/~x", "/~x")])
def test_a_leading_tilde_is_the_home_directory(home, text, path):
    assert read_path(text, "--out") == str(home) + path == read_path(Path(text), "--out").rstrip("/")


@pytest.mark.parametrize("text", ["a/~", "a~/b", "./~", "~x", "~~", "~no-such-user", "/~/a", " ~/a", "auto", "..."])
def test_other_names_are_what_they_are(home, text):
    assert read_path(text, "--out") == text


def test_another_user_is_looked_up_unless_there_is_such_a_folder(home):
    assert read_path(f"~{getpass.getuser()}/a", "--out").startswith("/")
    with pytest.raises(SettingsError, match=r"^--out is ~no-such-user/a, but there is no user no-such-user; write"):
        read_path("~no-such-user/a", "--out")
    Path("~no-such-user").mkdir()
    assert read_path("~no-such-user/a", "--out") == "~no-such-user/a"


def test_an_empty_path_and_a_missing_home_get_a_sentence(monkeypatch):
    with pytest.raises(SettingsError, match=r"^--out is empty; name a path, or leave it out$"):
        read_path("", "--out")
    monkeypatch.setenv("HOME", "")
    with pytest.raises(SettingsError, match=r"^--out is ~/a, but HOME names no home directory; write the path without"):
        read_path("~/a", "--out")
    monkeypatch.delenv("FEDSIM_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    with pytest.raises(SettingsError, match=r"FEDSIM_CACHE names one, is ~/\.cache/fedsim, but HOME names no home"):
        cache_folder()


@pytest.mark.parametrize("name", ["FEDSIM_CACHE", "XDG_CACHE_HOME", "FEDSIM_DATA"])
def test_variables_of_the_environment_know_the_home_directory(home, monkeypatch, name):
    monkeypatch.setenv("FEDSIM_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("FEDSIM_DATA", "")
    before = cache_folder(), default_root("camvid")
    assert before == (home / ".cache" / "fedsim", Path("data/camvid")), "empty counts as not set"
    monkeypatch.setenv(name, "~/x")
    assert path_from_environment(name) == home / "x"
    assert all(one in (was, home / "x", home / "x" / "fedsim", home / "x" / "camvid")
               for one, was in zip((cache_folder(), default_root("camvid")), before, strict=True))
    assert (cache_folder(), default_root("camvid")) != before


def test_settings_and_presets_know_the_home_directory(home):
    settings = {"data": "camvid", "data_root": "~/d", "partition": "~/p.json", "out": "~/o", "resume": "~/r"}
    preset = home / "preset.toml"
    preset.write_text("".join(f'{name} = "{value}"\n' for name, value in settings.items()))
    for one in (fedsim.Settings(**settings), parse(["--config", "~/preset.toml"]),
                parse([word for name, value in settings.items() for word in (f"--{name.replace('_', '-')}", value)]),
                fedsim.Settings(**fedsim.read_settings("~/preset.toml"))):
        assert [one.data_root, one.partition, one.out, one.resume] == [
            str(home / name) for name in ("d", "p.json", "o", "r")]
    for name in ("data_root", "out", "resume", "partition"):
        with pytest.raises(SettingsError, match=f"--{name.replace('_', '-')} is empty; name a path, or leave it out"):
            fedsim.Settings(**{name: ""})


def paths_of(command: click.Command, words: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], click.Parameter]]:
    """Every option and argument that takes a path, with its command."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        return [found for name in command.list_commands(context)
                for found in paths_of(command.get_command(context, name), (*words, name))]
    return [(words, one) for one in command.params
            if isinstance(one.type, PathType | click.Path | click.File)]


@pytest.mark.parametrize(("words", "parameter"), paths_of(commands), ids=lambda one: getattr(one, "name", None))
def test_every_path_of_every_command_is_read_in_one_way(words, parameter):
    """An empty one is refused by name and does nothing. Catches a path of click's own type, which keeps ~."""
    assert isinstance(parameter.type, PathType)
    option = isinstance(parameter, click.Option)
    before = ["model"] if parameter.name == "paths" else []
    result = CliRunner().invoke(commands, [*words, *before, *([parameter.opts[0]] if option else []), ""])
    name = parameter.opts[0] if option else parameter.human_readable_name.strip("[].")
    assert isinstance(result.exception, SettingsError) and str(result.exception).startswith(f"{name} is empty; ")


def test_python_and_commands_find_a_run_in_the_home_directory(home, tiny_camvid):
    (home / "camvid").symlink_to(tiny_camvid)
    result = fedsim.run(data="camvid", data_root="~/camvid", cars=2, width=4, image_size="32x24", rounds=1, threads=1,
                        device="cpu", out="~/run")
    assert result.directory == home / "run" and fedsim.Result.read("~/run").miou == result.miou
    assert fedsim.load("~/run").card == fedsim.load("~/run/checkpoints/model.safetensors").card
    for words in (["evaluate", "~/run", "--data-root=~/camvid", "--out=~/evaluation"], ["list", "~"],
                  ["show", "~/run"], ["predict", "~/run", "~/camvid/val", "--out", "~/prediction"]):
        assert CliRunner().invoke(commands, words).exit_code == 0, words
    assert json.loads((home / "evaluation" / "robustness.json").read_text())["runs"]
    assert (home / "prediction" / "index").is_dir() and [*Path().iterdir()] == []


@pytest.mark.parametrize("words", [["--classes", "0"], ["--data-root", ""], ["--eval-split", ""], ["--data", ""]])
def test_an_empty_value_is_not_taken_for_an_option_left_out(home, tiny_camvid, words):
    fedsim.run(data="camvid", data_root=str(tiny_camvid), cars=2, width=4, image_size="32x24", rounds=1, threads=1,
               device="cpu", out="~/run")
    result = CliRunner().invoke(commands, ["evaluate", "~/run", *words])
    assert isinstance(result.exception, UserError | click.ClickException | SystemExit) and result.exit_code
