"""The scores of all models of some runs on the held-out scenes of every car, and on unseen scenes."""

import csv
import io
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fedsim.data.partition.dealt import Dealt
from fedsim.distributed.world import World
from fedsim.errors import SettingsError
from fedsim.evaluation.evaluate import batches_of, count_by_drive
from fedsim.evaluation.metrics import scores
from fedsim.experiment.past_run import PastRun
from fedsim.inference.segmenter import Segmenter
from fedsim.report.tables import Table, markdown, print_block, print_tables
from fedsim.report.words import format_number

GLOBAL = "global"  # the name of the model that all cars of a run share


class ModelScores(NamedTuple):
    """The scores of a model of a run."""

    run: str
    algo: str
    car: str | None  # whose own model it is; None for one that all cars share
    on_cars: np.ndarray  # (S,) mIoU on each car's held-out scenes; NaN where a car has none
    unseen: float  # mIoU on the scored split of the run, or on its held-out drive

    @property
    def name(self) -> str:
        """The name of the model in a table."""
        return f"{self.run}: {self.car or GLOBAL}"


@dataclass(frozen=True)
class Matrix:
    """The scores of all models of some runs with the same held-out scenes."""

    cars: Sequence[str]
    models: Sequence[ModelScores]
    unseen: str  # the name of the unseen scenes

    def of_car(self, run: str, place: int) -> ModelScores:
        """Return the model that a car of a run works with: its own, or the one that all cars share."""
        own = [one for one in self.models if one.run == run]
        return next((one for one in own if one.car == self.cars[place]), own[0])

    @property
    def alone(self) -> str | None:
        """The first run whose cars never communicate; None without one."""
        return next((one.run for one in self.models if one.algo == "local"), None)


def score_matrix(runs: Mapping[str, PastRun], world: World, trust: Collection[str], view: Mapping[str, Any],
                 advance: Callable[[], None]) -> Matrix:
    """Score every model of the runs on every car's held-out scenes; `advance` is called after each run.

    runs: by the names that the tables give them; trust, view: as in `Segmenter.load`. Raises UserError if a run has not
    ended, holds out no scenes, or holds out other scenes than the first.
    """
    models: list[ModelScores] = []
    first: Dealt | None = None
    for name, run in runs.items():
        dealt = run.deal_again(world)
        scenes = dealt.own_test_set
        if scenes is None:
            raise SettingsError(f"{run.directory.path} has no scenes that are held out from its cars: train it with "
                                "--own-test 0.2, say")
        first = first or dealt
        if _held_out(dealt) != _held_out(first):
            raise SettingsError(f"{next(iter(runs))} and {name} hold out different scenes, or have different cars: "
                                "show each by itself")
        cars = [shard.name for shard in dealt.shards]
        for place, file in run.directory.models():
            model = Segmenter.load(file, world.device, trust, view)
            counts = dict(zip(scenes.drive_names, count_by_drive(model, scenes, batches_of(scenes), model.view),
                              strict=True))
            mious = [scores(counts[car]).miou if car in counts and counts[car].any() else math.nan for car in cars]
            unseen = count_by_drive(model, dealt.eval_set, batches_of(dealt.eval_set), model.view).sum(0)
            models.append(ModelScores(name, run.settings.algo, None if place is None else cars[place],
                                      np.array(mious), scores(unseen).miou))
        advance()
    assert first is not None, "no run at all"
    return Matrix([shard.name for shard in first.shards], models, first.scored.name)


def matrix_table(matrix: Matrix) -> Table:
    """Tabulate the mIoU of every model on every car's held-out scenes, and on unseen ones."""
    rows = [[one.name, *map(_cell, one.on_cars), format_number(one.unseen)] for one in matrix.models]
    return Table("Models (rows) on the held-out scenes of cars (columns), mIoU",
                 ["", *matrix.cars, matrix.unseen], rows, long=True)


def gain_tables(matrix: Matrix) -> Iterator[Table]:
    """Yield a table for each run beside the one of cars that are alone: what every car gains by joining it."""
    if matrix.alone is None:
        return
    for run in dict.fromkeys(one.run for one in matrix.models if one.run != matrix.alone):
        pairs = [(matrix.of_car(matrix.alone, place), matrix.of_car(run, place)) for place in range(len(matrix.cars))]
        own = [(alone.on_cars[place], joined.on_cars[place]) for place, (alone, joined) in enumerate(pairs)]
        unseen = [(alone.unseen, joined.unseen) for alone, joined in pairs]
        rows = [[car, *_gain(*here), *_gain(*there)] for car, here, there in zip(matrix.cars, own, unseen, strict=True)]
        means = [np.nanmean(np.array(numbers), axis=0) for numbers in (own, unseen)]
        yield Table(f"What a car gains by {run} over {matrix.alone}, mIoU",
                    ["", "own, alone", "own, joined", "gain", f"{matrix.unseen}, alone", f"{matrix.unseen}, joined",
                     "gain"], [*rows, ["mean", *_gain(*means[0]), *_gain(*means[1])]], long=True)


def matrix_csv(matrix: Matrix) -> str:
    """Return a CSV with a line for each model."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["run", "algo", "model", *matrix.cars, "unseen"])
    for one in matrix.models:
        writer.writerow([one.run, one.algo, one.car or GLOBAL,
                         *("" if math.isnan(miou) else miou for miou in one.on_cars.tolist()), one.unseen])
    return text.getvalue()


def write_matrix(matrix: Matrix, folder: Path) -> None:
    """Write the tables, a CSV and a heat map into a folder; then print the tables. Raises OSError."""
    # Here, because matplotlib takes long to import.
    from fedsim.comparison.figures import matrix_figure
    from fedsim.report.figures import save_png

    tables = [matrix_table(matrix), *gain_tables(matrix)]
    written = [folder / name for name in ("matrix.md", "matrix.csv", "matrix.png")]
    written[0].write_text("\n\n".join(map(markdown, tables)) + "\n", encoding="utf-8", errors="replace")
    written[1].write_text(matrix_csv(matrix), encoding="utf-8", errors="replace")
    save_png(matrix_figure([one.name for one in matrix.models], [*matrix.cars, matrix.unseen], np.array(
        [[*one.on_cars, one.unseen] for one in matrix.models])), written[2])
    print_tables(tables)
    print_block("Written", written)


def _held_out(dealt: Dealt) -> list[tuple[str, list[str]]]:
    names = dealt.train_set.names
    return [(shard.name, [names[index] for index in shard.own_test]) for shard in dealt.shards]


def _cell(miou: float) -> str:
    return format_number(None if math.isnan(miou) else miou)


def _gain(alone: float, joined: float) -> list[str]:
    return [_cell(alone), _cell(joined), "" if math.isnan(joined - alone) else f"{joined - alone:+.3f}"]
