"""Runs, grouped into rows by algorithm and settings, and their numbers over seeds.

Nothing here reads a file, draws, or evaluates a model.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np

from fedsim.data.partition import HELD_OUT
from fedsim.errors import SettingsError
from fedsim.options import flag
from fedsim.report.words import ABSENT, format_setting
from fedsim.settings import registry
from fedsim.settings.fields import Settings

# Settings in which runs of one row may differ: the seed, and where the run was played.
MAY_DIFFER = ("algo", "seed", "out", "resume", "data_root", "device", "backend", "threads", "timeout", "car_states",
              "checkpoint_every")
MUST_AGREE = ("data", "classes", "eval_split")  # settings that decide which scenes and classes are scored
TARGET_SHARE = 0.9  # of the best final mIoU: the default target


class Beside(NamedTuple):
    """A model that may be scored beside the global one."""

    column: str  # its title in tables
    note: str  # what a reader has to know


BESIDE = {
    "mean_of_cars": Beside("mean of cars", "Mean of cars: the final mIoU of the mean of the cars' own vectors, each "
                           "from its latest round. A federation that wants this model has to ask every car for its "
                           "vector."),
    "averaged": Beside("averaged", "Averaged: the final mIoU of the average of the global model over rounds "
                       "(--average-weights).")}


class Yardstick(NamedTuple):
    """A kind of centralised training, by which the other rows are measured."""

    algo: str
    column: str  # the title of the differences to it
    equal: tuple[str, ...]  # keys of records in which it should equal a federation


UPPER_YARDSTICKS = (Yardstick("central", "to central", ("pictures",)),
                    Yardstick("central-wide", "to central, same steps", ("pictures", "sequential_steps")))


@dataclass(frozen=True)
class Trial:
    """A run, read for a comparison."""

    path: str
    settings: Settings
    records: Sequence[dict[str, Any]]  # lines of metrics.jsonl, at least one of them scored
    # car -> mIoU of its final model on its training scenes; empty before the end, and if scenes were held out from cars
    own_scenes: Mapping[str, float]
    scored_on: str  # a digest of the scored scenes and their classes
    trained_on: str  # a digest of the training scenes and their classes

    @property
    def scored(self) -> list[dict[str, Any]]:
        """The records of the rounds that were scored."""
        return [record for record in self.records if record["global"]]

    @property
    def final(self) -> float:
        """The mIoU of the last round that was scored."""
        return float(self.scored[-1]["global"]["miou"])

    def beside(self, model: str) -> float | None:
        """Return the mIoU of a model of BESIDE after the last scored round; None if it was not scored."""
        return self.scored[-1].get(model, {}).get("miou")

    @property
    def best(self) -> float:
        """The highest mIoU of all rounds."""
        return float(max(record["global"]["miou"] for record in self.scored))

    @property
    def rounds(self) -> int:
        """The number of rounds it has played."""
        return int(self.records[-1]["round"])

    @property
    def megabytes(self) -> float:
        """The bytes that its cars have sent and received, in 10^6."""
        return _megabytes(self.records)

    @property
    def worst(self) -> float | None:
        """The lowest mIoU of a car's model on the car's training scenes; None if they were not scored."""
        return min(self.own_scenes.values(), default=None)

    @property
    def own_test(self) -> Mapping[str, Any]:
        """The last scores on the scenes that are held out from each car; empty if there are no such scenes."""
        return self.scored[-1].get("own_test", {})  # type: ignore[no-any-return]

    def class_iou(self, names: Iterable[str]) -> float | None:
        """Return the mean IoU of these classes after the last scored round; None if not one of them occurs."""
        ious = [iou for name in names if (iou := self.scored[-1]["global"]["class_iou"].get(name)) is not None]
        return statistics.fmean(ious) if ious else None

    def drive_miou(self, drive: str) -> float | None:
        """Return the mIoU on a drive after the last scored round; None if it is not known."""
        return self.scored[-1]["global"].get("drive_miou", {}).get(drive)

    def cost(self, target: float) -> "Cost | None":
        """Return the cost of reaching an mIoU for the first time; None if the run never reached it."""
        for index, record in enumerate(self.records):
            if record["global"] and record["global"]["miou"] >= target:
                so_far = self.records[:index + 1]
                return Cost(record["round"], _megabytes(so_far), sum(past["seconds"]["total"] for past in so_far))
        return None


class Cost(NamedTuple):
    """The cost of a run up to some round."""

    rounds: int
    megabytes: float  # 10^6 bytes, up and down
    seconds: float  # time of rounds and scoring, on the machine that played it


class Spread(NamedTuple):
    """The mean of a number over seeds, and its deviation."""

    mean: float
    deviation: float | None  # of the sample, with n - 1; None for a single seed
    seeds: int  # how many have the number


@dataclass(frozen=True)
class Row:
    """An algorithm with its settings: trials that differ only in the seed."""

    label: str
    algo: str
    trials: tuple[Trial, ...]  # by seed

    @property
    def is_central(self) -> bool:
        """True if it is centralised training."""
        return any(self.algo == yardstick.algo for yardstick in UPPER_YARDSTICKS)

    def of_seed(self, seed: int) -> Trial | None:
        """Return the trial with this seed; None if there is no such trial."""
        return next((trial for trial in self.trials if trial.settings.seed == seed), None)

    @property
    def final(self) -> Spread:
        """The mIoU of the last round of each run."""
        return _measure([trial.final for trial in self.trials])

    @property
    def best(self) -> Spread:
        """The highest mIoU of all rounds of each run."""
        return _measure([trial.best for trial in self.trials])


class Curve(NamedTuple):
    """The mIoU of a row along an axis, with a point for each round that was scored in all of its trials."""

    amount: list[float]  # mean over seeds
    mean: list[float]
    least: list[float]
    most: list[float]


def rows_of(trials: Sequence[Trial]) -> list[Row]:
    """Group trials by algorithm and settings into rows, in the order in which they are given.

    Raises SettingsError if scores are of different scenes, if trials of one row were trained on different scenes, or if
    two of them have the same seed.
    """
    first = trials[0]
    for trial in trials:
        held_out = ("hold_out_drive",) if first.settings.scored().split == HELD_OUT else ()
        for name in (*MUST_AGREE, *held_out):
            was, now = getattr(first.settings, name), getattr(trial.settings, name)
            if was != now:
                raise SettingsError(f"{first.path} has {flag(name)} {format_setting(was)} and {trial.path} "
                                    f"{format_setting(now)}, so that their scores cannot be compared: leave one of "
                                    "them out")
        if trial.scored_on != first.scored_on:
            raise SettingsError(f"{first.path} and {trial.path} were scored on different scenes or classes, although "
                                f"both have --data {first.settings.data}, so that their scores cannot be compared: "
                                "leave one of them out")
    groups: dict[tuple[str, ...], list[Trial]] = {}
    for trial in trials:
        groups.setdefault((trial.settings.algo, *_compared(trial).values()), []).append(trial)
    for group in groups.values():
        _check_repetitions(group)
    return [Row(_label(group, [other for other in groups.values() if other[0].settings.algo == key[0]]), key[0],
                tuple(sorted(group, key=lambda trial: trial.settings.seed))) for key, group in groups.items()]


def differences(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Return the settings that differ among rows: name -> the value of each row in words, – if it has no value."""
    settings = [_compared(row.trials[0]) for row in rows]
    by_name = {name: [values[name] for values in settings] for name in settings[0]}
    return {name: values for name, values in by_name.items() if len({*values} - {ABSENT}) > 1}


def best_row(rows: Sequence[Row], algo: str) -> Row | None:
    """Return the row of an algorithm, the best of several; None if there is no such row."""
    return max((row for row in rows if row.algo == algo), key=lambda row: row.final.mean, default=None)


def gap(row: Row, central: Row) -> Spread | None:
    """Return final mIoU less that of centralised training with the same seed; None if they share no seed.

    It is also None for the row of centralised training itself.
    """
    if row is central:
        return None
    pairs = [(trial, central.of_seed(trial.settings.seed)) for trial in row.trials]
    return spread([trial.final - other.final for trial, other in pairs if other])


def default_target(rows: Sequence[Row]) -> float:
    """Return 90 % of the best final mIoU of the rows that communicate, or of all rows if no row communicates.

    The mIoU of centralised training may be out of their reach.
    """
    federated = [row for row in rows if row.algo not in registry.YARDSTICKS]
    return TARGET_SHARE * max(row.final.mean for row in federated or rows)


def costs(row: Row, target: float) -> list[Cost]:
    """Return the costs of the trials that have reached the target."""
    return [cost for trial in row.trials if (cost := trial.cost(target))]


def rarest(names: Sequence[str], trained: np.ndarray, scored: np.ndarray) -> list[str]:
    """Return the rarest third, by training pixels, of the classes that occur in training and in the scored split.

    It has at least one class, if there is any. trained, scored: (C,) labelled pixels of each class there.
    """
    present = [index for index in np.argsort(trained, kind="stable") if trained[index] and scored[index]]
    return [names[index] for index in present[:max(1, len(present) // 3)]]


def curve(row: Row, axis: str) -> Curve:
    """Return the mIoU curve of a row. axis: round, megabytes, or a key of records that counts since the start."""
    common = set.intersection(*({record["round"] for record in trial.scored} for trial in row.trials))
    tracks = [[(_amount(trial, record, axis), record["global"]["miou"]) for record in trial.scored
               if record["round"] in common] for trial in row.trials]
    points = list(zip(*tracks, strict=True))
    mious = [[miou for _, miou in point] for point in points]
    return Curve([statistics.fmean(amount for amount, _ in point) for point in points],
                 [statistics.fmean(values) for values in mious], [*map(min, mious)], [*map(max, mious)])


def spread(values: Iterable[float | None]) -> Spread | None:
    """Return the spread of the values that are numbers; None if not one is."""
    numbers = [value for value in values if value is not None]
    return _measure(numbers) if numbers else None


def format_spread(over: Spread | None, seeds: int, form: str = ".3f") -> str:
    """Return mean ± deviation, and how many of the seeds have the number unless all have it; – if no seed has it."""
    if over is None:
        return ABSENT
    text = format(over.mean, form)
    if over.deviation is not None:
        text += f" ± {format(over.deviation, form.removeprefix('+'))}"
    return text if over.seeds == seeds else f"{text} ({over.seeds}/{seeds})"


def _measure(numbers: Sequence[float]) -> Spread:
    return Spread(statistics.fmean(numbers), statistics.stdev(numbers) if len(numbers) > 1 else None, len(numbers))


def _amount(trial: Trial, record: dict[str, Any], axis: str) -> float:
    if axis == "megabytes":
        return _megabytes([past for past in trial.records if past["round"] <= record["round"]])
    return float(record[axis])


def _megabytes(records: Iterable[dict[str, Any]]) -> float:
    return float(sum(record["bytes_up"] + record["bytes_down"] for record in records)) / 1e6


def _compared(trial: Trial) -> dict[str, str]:
    """Return the settings that tell rows apart, in words."""
    return {setting.name: format_setting(getattr(trial.settings, setting.name)) for setting in fields(Settings)
            if setting.name not in MAY_DIFFER}


def _check_repetitions(group: Sequence[Trial]) -> None:
    """Raise SettingsError if trials of one row differ in their training scenes, or two have the same seed."""
    known: dict[int, Trial] = {}
    for trial in group:
        seed = trial.settings.seed
        if trial.trained_on != group[0].trained_on:
            raise SettingsError(f"{group[0].path} and {trial.path} were trained on different scenes or classes, "
                                "although their settings are the same: leave one of them out")
        if seed in known:
            raise SettingsError(f"{known[seed].path} and {trial.path} are one run played twice ({trial.settings.algo}, "
                                f"seed {seed}), and the spread is over seeds: leave one of them out")
        known[seed] = trial


def _label(group: Sequence[Trial], of_algorithm: Sequence[Sequence[Trial]]) -> str:
    """Return a row's label: the algorithm, and the settings that tell this row from its other rows."""
    settings, others = _compared(group[0]), [_compared(other[0]) for other in of_algorithm]
    return " ".join([group[0].settings.algo, *(f"{name.replace('_', '-')} {value}" for name, value in settings.items()
                                               if any(other[name] != value for other in others))])
