import json
from pathlib import Path

import pytest
from records import make_local_records, make_records

from fedsim.classes import CAMVID_11
from fedsim.data.partition import Scored
from fedsim.report.summary import Outcome, print_summary, write_summary
from fedsim.report.tables import PRINTED, Table, print_tables

BASELINES = {"colour only": 0.27, "majority class": 0.06}
PATHS = [Path("runs/x/metrics.jsonl"), Path("runs/x/" + "long-" * 30 + "/report/loss.png")]


def outcome(records, baselines=BASELINES, notes=(), warnings=()) -> Outcome:
    return Outcome(records, CAMVID_11.names, Scored("val"), baselines, notes, warnings)


@pytest.fixture(params=["printed", "markdown"])
def summarise(request, capsys, tmp_path):
    """Both forms of the summary, as text."""
    def call(*arguments, **others):
        if request.param == "printed":
            print_summary(outcome(*arguments, **others), PATHS)
            return capsys.readouterr().out
        write_summary(outcome(*arguments, **others), PATHS, tmp_path / "summary.md")
        return (tmp_path / "summary.md").read_text(encoding="utf-8")
    return call


def cells(text: str, start: str) -> list[str]:
    """The words of the one row that starts so."""
    (row,) = [line for line in text.splitlines() if line.strip("| ").startswith(start)]
    return row.replace("|", " ").split()


@pytest.mark.parametrize(("model", "name"), [
    ("mean_of_cars", "mIoU of the mean of the cars' vectors"), ("averaged", "mIoU of the average over rounds")])
def test_a_model_beside_theta_has_a_row_if_it_was_scored(summarise, model, name):
    """Round 0 has none. Catches the score of theta in its place."""
    records = make_records(rounds=2, cars=2)
    assert name not in summarise(records)
    records[-1][model] = {**records[-1]["global"], "miou": 0.875}
    row = cells(summarise(records), name)
    assert "0.875" in row and row.index("–") < row.index("0.875")


def test_rounds_without_a_step_are_counted(summarise):
    """Catches rounds that nobody answered, or too few, which the rounds hide."""
    records = make_records(rounds=4, cars=2, chosen=lambda number: [0] if number < 3 else [])
    for record in records[1:]:
        record["failed"] = [1]
    assert cells(summarise(records), "rounds without a step")[-1] == "2"
    assert "without a step" not in summarise(records[:3])


def test_every_class_car_baseline_and_path_is_there(summarise, records):
    text = summarise(records)
    for name in CAMVID_11.names:
        assert cells(text, f"IoU {name}")
    assert cells(text, "IoU Pole") == ["IoU", "Pole", "–", "–"]
    for car in range(4):
        row = cells(text, f"0{car} town-{car}")
        assert row[2:4] == [str(96 + car), "144"]  # images; steps of six rounds
        assert float(row[5]) == pytest.approx(1.5 + car / 10)
    assert cells(text, "mIoU")[-2:] == ["0.270", "0.060"]
    assert all(str(path) in text for path in PATHS)


def test_drives_have_a_table_if_there_are_several(summarise, records):
    """Of the untrained and the latest model. Catches a table of a single drive, and a gap that is a number."""
    assert "by drive" not in summarise(records) and "of a drive" not in summarise(records)
    for number, record in enumerate(records):
        record["global"]["drive_miou"] = {"d0": number / 8, "d1": None if number else 0.5}
    text = summarise(records)
    assert "mIoU by drive, val split" in text and "The mIoU of a drive is over the classes that occur there" in text
    assert cells(text, "d0") == ["d0", "0.000", "0.750"] and cells(text, "d1") == ["d1", "0.500", "–"]


def test_scores_are_those_of_the_untrained_and_the_latest_evaluated_model(summarise):
    text = summarise(make_records(rounds=5, cars=2, evaluate_every=2))
    assert "untrained" in text and "round 4" in text
    assert cells(text, "loss") == ["loss", "2.400", "1.000"]


def test_counts_are_of_the_whole_run(summarise, records):
    """Bytes are recorded a round, pictures and steps since the start: only the first are added up."""
    text = summarise(records)
    assert cells(text, "pictures seen")[-1] == "2,304"
    assert cells(text, "sequential")[-1] == "144"
    assert cells(text, "MB up")[-1] == "120.0"
    assert cells(text, "MB down")[-1] == "60.0"


def test_the_split_and_what_else_has_to_be_known_are_stated(summarise, records):
    text = summarise(records, notes=["Every car weighs the same.", "One of them is hostile."])
    assert "val split" in text and "Every car weighs the same." in text and "One of them is hostile." in text


def test_a_loss_of_an_earlier_round_says_which(summarise):
    text = summarise(make_records(rounds=4, cars=2, chosen=lambda number: [0] if number > 2 else [0, 1]))
    assert "(round 2)" in " ".join(cells(text, "01 town-1"))
    assert "(round" not in " ".join(cells(text, "00 town-0"))


def test_cars_that_never_communicate_get_a_mean_and_a_worst(summarise):
    records = make_local_records(rounds=4, cars=3)
    records[4]["global"] = None  # the last round was not evaluated
    del records[4]["worst"]
    text = summarise(records, baselines={})
    assert "(town-1)" in " ".join(cells(text, "mIoU of the worst car"))
    assert cells(text, "02 town-2")[-1] == "0.320"
    assert "Cars never communicated" in text


def test_a_run_that_was_never_evaluated_is_summed_up(summarise):
    records = make_records(rounds=2, cars=2)
    for record in records:
        record["global"] = None
    assert cells(summarise(records), "00 town-0")


def test_names_with_brackets_colons_and_bars_survive(summarise, records):
    for record in records:
        for entry in record["cars"]:
            entry["name"] = "[bold]:car:a|b"
    assert "[bold]:car:a" in summarise(records)


def test_warnings_of_the_start_and_of_rounds_are_told(summarise, records):
    """Catches those of rounds before a resume being lost: they are in the records."""
    records[3]["warning"] = "the step has grown fivefold"
    text = summarise(records, warnings=["the splits share drives"])
    assert "Warning: the splits share drives." in text and "Warning: round 3: the step has grown fivefold." in text


def test_what_is_in_no_record_is_kept_beside_the_summary(tmp_path, records):
    write_summary(outcome(records, notes=["Odd."]), PATHS, tmp_path / "summary.md")
    kept = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    assert kept == {"split": "val", "hold_out_drive": None, "baselines": BASELINES, "notes": ["Odd."]}


def test_of_many_classes_the_screen_shows_all(capsys):
    """Catches a cut that is meant for cars: CamVid has 32 classes."""
    print_tables([Table("Scores", ["", "1"], [[f"IoU class {index}", "0.5"] for index in range(40)])])
    assert "class 39" in capsys.readouterr().out


def test_of_many_cars_the_screen_shows_the_first_and_the_file_all(capsys, tmp_path):
    many = outcome(make_records(rounds=1, cars=PRINTED + 5))
    print_summary(many, [])
    shown = capsys.readouterr().out
    assert "town-31" in shown and "town-32" not in shown and "5 more" in shown
    write_summary(many, [], tmp_path / "s.md")
    assert "town-36" in (tmp_path / "s.md").read_text(encoding="utf-8")
