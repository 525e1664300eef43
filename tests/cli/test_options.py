"""The command line: help, defaults, presets."""

import dataclasses
import json
import re
import tomllib

import click
import pytest
import tomli_w
from commandline import parse

from fedsim.algorithms import FedADMM
from fedsim.cli.options import command, read_options
from fedsim.errors import SettingsError
from fedsim.experiment.dealing import cars_of
from fedsim.experiment.identity import config
from fedsim.options import as_arguments, flag
from fedsim.settings import compatible
from fedsim.settings.compatible import check
from fedsim.settings.conversion import LISTS, TABLES
from fedsim.settings.fields import CHOICES, Settings
from fedsim.settings.registry import ALIASES, NAMES

SETTINGS = dataclasses.fields(Settings)
THEMES = ("Federation", "Algorithm", "Robustness", "Local training", "Model", "Data", "Machine")


@pytest.fixture
def preset(tmp_path):
    """A function that writes a preset and returns the option that names it."""
    def write(text: str) -> list[str]:
        path = tmp_path / "preset.toml"
        path.write_text(text)
        return ["--config", str(path)]

    return write


def help_text() -> str:
    made = command()
    return made.get_help(click.Context(made, info_name="fedsim", max_content_width=200, terminal_width=200))


def test_every_setting_is_an_option_and_every_option_a_setting():
    names = {name for parameter in command().params for name in parameter.opts}
    assert names == {flag(setting.name) for setting in SETTINGS} | {"--config", "--quiet", "--verbose"}


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_every_option_has_a_help_text_a_default_and_a_theme(setting):
    """A setting that is None by default says what decides in its place."""
    option = next(parameter for parameter in command().params if parameter.name == setting.name)
    assert re.match(r"[A-Za-z0-9].*\.", option.help) and option.theme in THEMES
    if setting.name in (*TABLES, *LISTS):
        assert "may be given several times" in option.help
    elif isinstance(setting.default, bool):
        assert option.help.endswith(f"[default: {'on' if setting.default else 'off'}]")
    elif setting.default is not None:
        assert option.help.endswith(f"[default: {setting.default}]")
    else:
        assert re.search(r"[Dd]efault|Folder|in proportion", option.help)


def test_options_by_name_override_a_presets_one_by_one(preset):
    """Catches a table that is replaced whole, and a second way to set what has a flag of its own."""
    text = preset('rho = "0.5"\n[option]\nkappa = 0.3\n')
    assert parse(text).option == {"kappa": 0.3}
    asked = parse([*text, "--option", "kappa=0.25", "--option", "rho=0.125"])
    assert check(asked).algorithm == FedADMM(0.125, 0.25)
    assert parse([*text, "--algo", "avg"]).option == {}


OWN = """
import dataclasses
import json
from fedsim.algorithms import FedAvg

@dataclasses.dataclass(frozen=True)
class Mine(FedAvg):
    beta: float = 0.5
    steps: int = 3
    lr: float = 0.25
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A user's own algorithm with three options, of which one is called as a setting is."""
    (tmp_path / "own_of_options.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    return "own_of_options:Mine"


def test_a_presets_options_stay_where_its_algorithm_is_named_again(preset, own):
    """A preset with code of its own runs only so. Catches options of the preset that one of the command line hides."""
    text = preset(f'algo = "{own}"\n[option]\nbeta = 0.75\nsteps = 5\n')
    assert parse([*text, "--algo", own, "--option", "beta=0.25"]).option == {"beta": "0.25", "steps": 5}


def test_an_option_of_ones_own_may_be_called_as_a_setting_is(own):
    """Catches a setting that is taken for the option, so that only one of the two can be given."""
    asked = parse(["--algo", own, "--lr", "0.5", "--option", "lr=0.125"])
    assert (asked.lr, asked.option) == (0.5, {"lr": "0.125"})


@pytest.mark.parametrize(("words", "says"), [
    (["--option", "kappa"], "--option is 'kappa'; write NAME=VALUE"), (["--option", "=1"], "write NAME=VALUE"),
    (["--option", "kappa=1", "--option", "kappa=2"], "--option kappa is given twice"),
    (["--rho", "1", "--option", "rho=2"], "--option rho is given twice")])
def test_options_by_name_that_say_nothing_clear_are_refused(words, says):
    with pytest.raises(SettingsError) as refusal:
        parse(words)
    assert says in str(refusal.value)


def test_help_shows_options_by_theme():
    text = help_text()
    places = [text.index(f"\n{theme}:\n") for theme in THEMES]
    assert places == sorted(places)
    for setting in SETTINGS:
        section = text[places[THEMES.index(setting.metadata["theme"])]:]
        assert flag(setting.name) in section


@pytest.mark.parametrize("name", CHOICES)
def test_help_names_every_choice(name):
    line = next(parameter for parameter in command().params if parameter.name == name)
    assert line.metavar == "|".join(CHOICES[name])


def test_asking_for_help_is_no_mistake(capsys):
    assert parse(["--help"]) is None
    assert "--participation" in capsys.readouterr().out


def test_nothing_given_is_the_defaults():
    assert parse([]) == Settings()


@pytest.mark.parametrize("setting", [setting for setting in SETTINGS if setting.name not in ("data", *TABLES, *LISTS)],
                         ids=lambda setting: setting.name)
def test_the_command_line_wins_over_a_preset_and_a_preset_over_the_default(setting, preset):
    """Every setting by its own type, but for data: each of its values has its own options.

    Catches an option whose default hides the preset's value.
    """
    given = {
        "algo": ("avg", "central"), "optimizer": ("adam", "sgd"), "lr_schedule": ("constant", "cosine"),
        "weighting": ("images", "uniform"), "batchnorm": ("pooled", "recalibrate"), "rho": ("0.5", "0.25"),
        "class_weights": ("none", "median-frequency"), "norm": ("group", "batch"), "local_epochs": ("1:3", "2"),
        "mu": (0.5, 0.25), "dyn_alpha": ("0.5", "0.25"), "local_start": ("own", "global"), "server_step": (0.5, 0.25),
        "dual_step": ("after", "before"),
        "server_optimizer": ("momentum", "yogi"), "server_momentum": (0.5, 0.25), "server_beta2": (0.5, 0.25),
        "server_tau": (0.5, 0.25), "on_divergence": ("stop", "rollback"), "aggregator": ("median", "mean"),
        "trim_fraction": (0.1, 0.25), "clip_norm": (0.5, 0.25), "attack": ("scale", "gaussian"),
        "car_failures": (0.5, 0.25), "car_states": ("disk", "memory"),
        "partition": ("iid", "drive"), "hold_out_drive": ("0001TP", "0006R0"), "own_test": (0.5, 0.25),
        "stop_at": (0.5, 0.25), "keep_best": (True, False),
        "eval_split": ("test", "train"), "device": ("cpu", "cuda"), "backend": ("gloo", "nccl"),
        "image_size": ("40x30", "16x8"), "data_root": ("here", "there"), "model": ("segnet", "segnet-basic"),
        "resume": ("one", "auto"), "init": ("one", "other"),
        "out": ("one", "other"), "augment": ("none", "standard"), "participation": (0.5, 0.25),
        "momentum": (0.5, 0.25), "label_smoothing": (0.5, 0.25), "crop": ("8x8", "4x4"), "scale_range": ("1,2", "1,3"),
        "lr_floor": (0.5, 0.25), "average_weights": ("ema:0.5", "swa:0.25"),
        "test_scales": ("0.5,1", "2"), "test_flip": (True, False), "tile": ("8x8", "4x4"),
        "momentum_across_rounds": ("average", "own"), "nesterov": (True, False), "loss": ("dice", "ohem+0.5*dice"),
        "precision": ("bf16", "fp16"), "compile": (True, False),
    }.get(setting.name, (3, 2))
    with_it = {"alpha": {"partition": "dirichlet"}, "data_root": {"data": "camvid"}, "optimizer": {"rho": "1"},
               "mu": {"algo": "prox"}, "dyn_alpha": {"algo": "dyn"}, "server_optimizer": {"algo": "avg"},
               "server_momentum": {"algo": "avgm"}, "server_beta2": {"algo": "adam"}, "server_tau": {"algo": "adam"},
               "trim_fraction": {"aggregator": "trimmed-mean"}, "krum_hostile": {"aggregator": "krum"},
               "attack": {"attackers": 1}}.get(setting.name, {})
    text = tomli_w.dumps({**with_it, setting.name: given[0]})
    assert getattr(parse(preset(text)), setting.name) == given[0]
    assert getattr(parse([*preset(text), *as_arguments({setting.name: given[1]})]), setting.name) == given[1]


def test_the_settings_of_a_run_are_a_preset_that_gives_them_again(preset):
    """Catches a type that the reader refuses although the writer wrote it, such as a truth value."""
    settings = parse(["--algo", "avg", "--augment", "none", "--cars", "3", "--image-size", "40x30", "--lr", "1"])
    assert parse(preset(tomli_w.dumps(config(settings)))) == settings


def test_a_whole_number_may_stand_for_a_decimal_in_a_preset_and_nothing_else_for_another_type(preset):
    assert parse(preset("lr = 1")).lr == 1
    for text, expected in [("rounds = 1.5", "int"), ('rounds = "3"', "int"), ("classes = 1.5", "int"),
                           ("lr = true", "float"), ("cars = true", "int"),
                           ('nesterov = "yes"', "true or false"), ("algo = 3", "str"),
                           ("out = []", "str"), ("rounds = {}", "int"), ("seed = 2020-01-01", "int")]:
        with pytest.raises(SettingsError, match=f"expected {expected}$"):
            parse(preset(text))


def test_what_an_algorithm_or_partition_asked_for_does_not_read_is_left_out_of_a_preset(preset, capsys):
    """And said. Catches the settings of a run that can't be repeated with another algorithm."""
    text = 'algo = "admm"\nrho = 0.1\nparticipation = 0.5\npartition = "dirichlet"\nalpha = 0.3\nlr = 0.3\n'
    central = parse([*preset(text), "--algo", "central"])
    assert (central.rho, central.participation, central.alpha, central.lr) == (None, 1.0, 0.3, 0.3)
    assert ": --rho, --participation left out" in capsys.readouterr().out
    assert parse([*preset(text), "--algo", "avg"]).participation == 0.5
    assert parse([*preset(text), "--partition", "drive"]).alpha is None
    assert parse(preset(text)).rho == "0.1"
    with pytest.raises(SettingsError, match="--rho belongs to"):  # asked for: not left out but refused
        compatible.check(parse([*preset(text), "--algo", "avg", "--rho", "1"]))


@pytest.mark.parametrize(("text", "asked", "left_out"), [
    ("cars = 4", ["--partition", "SPLIT"], ["cars"]),
    ('partition = "drive"\ncars = 4\nalgo = "avg"', ["--partition", "SPLIT", "--algo", "prox"], ["cars"]),
    ('batchnorm = "recalibrate"', ["--norm", "group"], ["batchnorm"]),
    ('momentum = 0.5\nalgo = "avg"', ["--optimizer", "adam"], ["momentum"]),
    ("width = 8", ["--model", "torchvision:lraspp_mobilenet_v3_large"], ["width"]),
    ('attackers = 2\nattack = "scale"', ["--attackers", "0"], ["attack"]),
    ('data = "camvid"\ndata_root = "/camvid"\nclasses = 32', ["--data", "streets"], ["data_root", "classes"]),
    ('data = "camvid"\ndata_root = "/camvid"\nclasses = 32', ["--data", "cityscapes"], ["data_root", "classes"]),
])
def test_what_only_a_preset_says_gives_way_to_what_is_typed(preset, tmp_path, capsys, text, asked, left_out):
    """And is named. Catches a run refused for an option that nobody typed."""
    split = tmp_path / "other.json"
    split.write_text(json.dumps({"format": 1, "cars": [{"name": "a", "scenes": ["town-day-00/0000"]}]}))
    settings = parse([*preset(text), *(str(split) if word == "SPLIT" else word for word in asked)])
    compatible.check(settings)
    defaults = parse([])
    for name in left_out:
        assert getattr(settings, name) == getattr(defaults, name)
    assert f": {', '.join(map(flag, left_out))} left out, because" in capsys.readouterr().out
    if settings.partition == str(split):
        assert cars_of(settings, ranks=1) == 1


@pytest.mark.parametrize(("text", "asked", "kept"), [
    ('data = "camvid"\ndata_root = "/camvid"', ["--data", "camvid"], "data_root"),
    ("width = 8", ["--model", "segnet"], "width"), ("cars = 5", ["--partition", "iid"], "cars"),
    ("momentum = 0.5", ["--optimizer", "sgd"], "momentum"), ('batchnorm = "local"', ["--norm", "batch"], "batchnorm")])
def test_what_a_preset_says_stays_where_it_is_read(preset, text, asked, kept):
    loaded = tomllib.loads(text)
    assert getattr(parse([*preset(text), *asked]), kept) == loaded[kept]


@pytest.mark.parametrize(("preset_text", "asked"), [("", ["--cars", "4", "--partition", "SPLIT"]),
                                                    ('partition = "SPLIT"', ["--cars", "4"])])
def test_a_number_of_cars_that_is_typed_must_be_the_split_files(preset, tmp_path, preset_text, asked):
    split = tmp_path / "other.json"
    split.write_text(json.dumps({"format": 1, "cars": [{"name": "a", "scenes": ["town-day-00/0000"]}]}))
    words = [*preset(preset_text.replace("SPLIT", str(split))), *(word.replace("SPLIT", str(split)) for word in asked)]
    with pytest.raises(SettingsError, match=r"--cars is 4, but .*other\.json has 1 cars: leave --cars out, or name"):
        cars_of(parse(words), ranks=1)


@pytest.mark.parametrize(("name", "value", "asked"), [
    ("server_optimizer", "momentum", ["--algo", "prox", "--server-momentum", "0.5"]),
    ("attackers", 2, ["--algo", "prox", "--attack", "scale"]),
    ("participation", 0.5, ["--algo", "avg", "--rho", "1"]),  # a mistake of its own, told later
    ("partition", "/gone/partition.json", ["--algo", "avg"])])
def test_a_preset_keeps_what_is_no_part_of_a_contradiction(preset, name, value, asked):
    """Mutation: leave a setting out where the others contradict one another without it."""
    settings = parse([*preset(tomli_w.dumps({name: value, "rounds": 99, "seed": 7, "cars": 9})), *asked])
    assert (getattr(settings, name), settings.rounds, settings.seed, settings.cars) == (value, 99, 7, 9)


def test_an_option_that_builds_on_a_preset_hides_no_contradiction(preset):
    """The momentum contradicts --algo until its optimiser is read. Mutation: all that is asked for first."""
    text = 'algo = "prox"\nmu = 0.5\nserver_optimizer = "momentum"\n'
    settings = parse([*preset(text), "--algo", "avg", "--server-momentum", "0.5"])
    assert (settings.mu, settings.server_optimizer) == (None, "momentum")


def test_a_preset_keeps_what_one_of_several_algorithms_reads(preset, capsys):
    """Whatever their order. Mutation: leave out what the first does not read."""
    _, path = preset('algo = "admm"\nrho = 0.1\nparticipation = 0.5\nmu = 0.3\n')
    nothing = {"config": path, "out": None}
    for algos in (["central", "avg", "admm"], ["admm", "avg", "central"]):
        given = read_options(nothing | {"algo": algos[0]}, algos).given
        assert (given["rho"], given["participation"]) == (0.1, 0.5) and "mu" not in given
    assert ": --mu left out, because" in capsys.readouterr().out


def test_a_preset_fits_in_the_same_way_when_its_run_goes_on(preset):
    """A job that the scheduler starts again types the same. Mutation: leave nothing out with --resume."""
    words = [*preset('algo = "admm"\nrho = 0.1\nlr = 0.3\n'), "--algo", "avg"]
    assert parse([*words, "--resume", "auto"]) == dataclasses.replace(parse(words), resume="auto")


def test_a_split_file_that_is_gone_is_looked_for_beside_the_settings(tmp_path):
    """Catches a run that cannot be repeated once its directory has been moved."""
    (tmp_path / "config.toml").write_text('partition = "/gone/partition.json"\n')
    (tmp_path / "partition.json").write_text("{}")
    assert parse(["--config", str(tmp_path / "config.toml")]).partition == str(tmp_path / "partition.json")


def test_a_penalty_needs_no_quotes_in_a_preset(preset):
    assert check(parse(preset("rho = 0.25"))).algorithm.rho == 0.25
    assert check(parse(preset('rho = "auto"'))).algorithm.rho is None
    assert parse(preset("local_epochs = 3")).epochs() == (3, 3) == parse(preset('local_epochs = "3.0"')).epochs()
    assert parse(preset("local_epochs = 0.25")).epochs() == (0.25, 0.25) == parse(["--local-epochs", ".250"]).epochs()
    assert parse(preset('local_epochs = "1:5"')).epochs() == (1, 5)


def test_full_names_stand_for_short_ones():
    """fedavg for avg, in whatever is recorded too."""
    for name in NAMES:
        assert parse(["--algo", name]).algo == name
    for full, short in ALIASES.items():
        assert parse(["--algo", full]) == parse(["--algo", short])
