"""The table, the notes and the columns of a comparison that tell how well its runs serve each car."""

from collections.abc import Sequence
from typing import Any

from fedsim.comparison.trials import Row, Trial, format_spread, spread
from fedsim.report.tables import Table
from fedsim.report.words import ABSENT, format_number

# key of the scores on the cars' held-out scenes -> title of its column
OWN_TEST = {"mean": "own", "worst": "own, worst car", "others": "others", "deviation": "deviation over cars",
            "jain": "Jain's index"}
OWN_TEST_NOTE = (
    "Own: the mIoU of each car's model on scenes of the car that nobody trains on, mean over the cars; its model is "
    "the global one or, with local, its own. Others: the same on the scenes of the other cars, mean over all pairs of "
    "cars. Jain's index of the own mIoUs is 1 if all cars are served alike.")
WORST_CAR_NOTE = (
    "Worst car: every car's training scenes are scored with the global model or, with local, the car's own model. The "
    "worst car has the lowest of these mIoUs. Cars have trained on these scenes: the number tells which car a model "
    "serves badly, not how good the model is elsewhere.")
NAMES_OF_CARS = ("own_test_worst_car", "worst_car")  # columns of the CSV that are no numbers


def all_hold_out(rows: Sequence[Row]) -> bool:
    """Return whether every run has scenes that are held out from each car."""
    return all(trial.own_test for row in rows for trial in row.trials)


def own_test_table(rows: Sequence[Row]) -> Table:
    """Tabulate the scores on the scenes that are held out from each car; without a row if no run has such scenes."""
    lines = []
    for row in rows:
        found = [trial.own_test for trial in row.trials if trial.own_test]
        lines.append([row.label, *(format_spread(spread(scores.get(key) for scores in found), len(row.trials))
                                   for key in OWN_TEST)])
    return Table("The cars' own scenes that are held out", ["", *OWN_TEST.values()],
                 lines if any(trial.own_test for row in rows for trial in row.trials) else [])


def worst_car_cells(trial: Trial) -> tuple[str, str]:
    """Return the mIoU and the name of the car that a run's model serves worst."""
    if trial.own_test:
        return format_number(trial.own_test["worst"]), trial.own_test["worst_car"]
    if not trial.own_scenes:
        return ABSENT, ABSENT
    name = min(trial.own_scenes, key=lambda car: trial.own_scenes[car])
    return f"{trial.own_scenes[name]:.3f}", name


def notes_on_cars(rows: Sequence[Row]) -> list[str]:
    """Return what a reader of the numbers on cars must know."""
    held_out = [OWN_TEST_NOTE] if own_test_table(rows).rows else []
    return held_out if all_hold_out(rows) else [*held_out, WORST_CAR_NOTE]


def record_cars(trial: Trial, rows: Sequence[Row]) -> dict[str, Any]:
    """Return the columns on cars of a run's line in the CSV. Those on held-out scenes are there if a run has them."""
    held_out = {} if not any(one.own_test for row in rows for one in row.trials) else {
        f"own_test_{key}": trial.own_test.get(key) for key in (*OWN_TEST, "worst_car")}
    return held_out | {"worst_car": min(trial.own_scenes, key=lambda car: trial.own_scenes[car], default=None),
                       "worst_car_miou": trial.worst}
