"""The numbers of a comparison, by hand, from made-up records.

Each test was seen to fail: with a population's deviation for a sample's, with gaps of unpaired means, with the cost of
the last round for that of the first that reaches the target, with rows told apart by threads, with classes sorted the
wrong way, with names left unescaped, with one colour for all rows, with cars' models in the order of their names, with
scenes that differ left unnoticed, with rare classes that are in no label, with one line for two own algorithms, and
with a picture of the scenes at another resolution in the page.
"""

import base64
import csv
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from fedsim.classes import CAMVID_11
from fedsim.comparison.figures import classes_figure, curves_figure, scenes_figure
from fedsim.comparison.findings import Findings
from fedsim.comparison.report import judge, write_report
from fedsim.comparison.tables import (
    Comparison,
    cost_table,
    drive_table,
    escape,
    format_spread,
    latex,
    notes,
    run_csv,
    score_table,
    summary_csv,
    tuning_table,
    warnings,
)
from fedsim.comparison.trials import (
    Spread,
    Trial,
    costs,
    curve,
    default_target,
    differences,
    gap,
    rarest,
    rows_of,
    spread,
)
from fedsim.comparison.tuning import Tuning, candidates, with_candidate
from fedsim.errors import OutputError, SettingsError
from fedsim.experiment.past_run import PastRun
from fedsim.options import as_arguments
from fedsim.record.run_directory import RunDirectory
from fedsim.report.figures import save_png
from fedsim.report.scenes import Shown
from fedsim.settings.fields import Settings

CLASSES = ("Sky", "Road", "Pole")


def record(number: int, miou: float | None, images=(8, 8), work=(20, 10)) -> dict:
    return {"round": number, "algo": "avg",
            "global": miou and {"loss": 1.0, "miou": miou, "pixel_accuracy": 0.9,
                                "class_iou": {"Sky": miou, "Road": 2 * miou, "Pole": None}},
            "cars": [{"car": car, "images": count} for car, count in enumerate(images)] if number else [],
            "pictures": work[0] * number, "sequential_steps": work[1] * number, "bytes_up": 3_000_000 * bool(number),
            "bytes_down": 2_000_000 * bool(number), "seconds": {"total": 1.5}}


def trial(*mious: float | None, own=None, images=(8, 8), on=("val", "train"), work=(20, 10), **settings) -> Trial:
    """A run of mIoUs from round 0 on; None where a round was not scored.

    on: scenes to score and to train on; work: pictures and sequential steps of a round.
    """
    chosen = Settings(**{"algo": "avg", "rounds": len(mious) - 1} | settings)
    return Trial(f"runs/{chosen.algo}-{chosen.seed}", chosen,
                 [record(number, miou, images, work) for number, miou in enumerate(mious)], own or {}, *on)


@pytest.fixture
def comparison() -> Comparison:
    """Two seeds of central and avg, one of local; half of 0.5 + 0.7 is avg's mean."""
    rows = rows_of([
        trial(0.1, 0.7, 0.8, algo="central", own={"a": 0.9, "b": 0.6}),
        trial(0.1, 0.5, 0.6, algo="central", seed=1, own={"a": 0.9, "b": 0.8}),
        trial(0.1, 0.6, 0.5, own={"a": 0.4, "b": 0.3}), trial(0.1, 0.4, 0.7, seed=1, own={"a": 0.2, "b": 0.5}),
        trial(0.1, 0.2, 0.3, algo="local")])
    return Comparison(rows, CLASSES, ["Road"], 0.55)


def test_means_and_sample_deviations_are_over_seeds(comparison):
    central, avg, local = comparison.rows
    assert avg.final == pytest.approx((0.6, 0.02**0.5, 2))  # sqrt(((0.1)² + (0.1)²) / 1)
    assert central.final.mean == pytest.approx(0.7) and avg.best.mean == pytest.approx(0.65)
    assert local.final == (pytest.approx(0.3), None, 1)
    assert format_spread(avg.final, 2) == "0.600 ± 0.141" and format_spread(local.final, 1) == "0.300"


def test_gaps_are_paired_by_seed():
    central, avg = rows_of([trial(0.1, 0.8, algo="central"), trial(0.1, 0.6, algo="central", seed=1),
                            trial(0.1, 0.5), trial(0.1, 0.9, seed=1), trial(0.1, 0.1, seed=7)])
    assert gap(avg, central) == (pytest.approx(0.0), pytest.approx(0.18**0.5), 2)  # -0.3 and 0.3; seed 7 has no pair
    assert gap(rows_of([trial(0.1, 0.1, seed=7)])[0], central) is None


def test_each_kind_of_centralised_training_is_a_yardstick_of_its_own():
    """Paired by seed, in the table, the notes and both CSVs.

    Catches the gap to one kind in both columns, means that are not paired, and a column without its yardstick.
    """
    wide = [trial(0.1, 0.7, algo="central-wide"), trial(0.1, 0.6, algo="central-wide", seed=1)]
    others = [trial(0.1, 0.9, algo="central"), trial(0.1, 0.8, algo="central", seed=1),
              trial(0.1, 0.8), trial(0.1, 0.3, seed=1)]
    both = Comparison(rows_of([*others, *wide]), CLASSES, ["Road"], 0.5)
    table = score_table(both)
    cells = {row[0]: dict(zip(table.header, row, strict=True)) for row in table.rows}
    assert cells["avg"]["to central"] == "-0.300 ± 0.283" and cells["central-wide"]["to central"] == "-0.200 ± 0.000"
    assert cells["avg"]["to central, same steps"] == "-0.100 ± 0.283"
    assert cells["central"]["to central, same steps"] == "+0.200 ± 0.000"
    assert cells["central"]["to central"] == cells["central-wide"]["to central, same steps"] == "–"
    runs = list(csv.DictReader(io.StringIO(run_csv(both))))
    assert (float(runs[3]["to_central"]), float(runs[3]["to_central_same_steps"])) == pytest.approx((-0.5, -0.3))
    summary = list(csv.DictReader(io.StringIO(summary_csv(both))))
    assert float(summary[1]["to_central_same_steps"]) == pytest.approx(-0.1)
    assert summary[2]["to_central_same_steps"] == "" and summary[1]["to_central_same_steps_n"] == "2"
    for rows, columns in (([*both.rows[1:]], ["to central, same steps"]), ([both.rows[1]], [])):
        some = replace(both, rows=rows)
        assert [name for name in score_table(some).header if "central" in name] == columns
        assert len([note for note in notes(some) if note.startswith("To central")]) == len(columns)


def test_unequal_work_is_warned_of():
    """Catches steps of the mean car, half of the cars, and centralised training that is blamed for its many steps."""
    rows = rows_of([trial(0.1, 0.9, algo="central", work=(400, 200)), trial(0.1, 0.8, algo="prox", work=(400, 100)),
                    trial(0.1, 0.9, algo="central-wide", work=(400, 62)), trial(0.1, 0.8, work=(200, 62))])
    said = warnings(Comparison(rows, CLASSES, ["Road"], 0.5))
    assert said == ['"to central" compares unequal work: central has seen 400 pictures, and avg 200',
                    '"to central, same steps" compares unequal work: central-wide has seen 400 pictures, and avg 200',
                    '"to central, same steps" compares unequal work: central-wide has taken 62 sequential steps, and '
                    'prox 100']
    assert warnings(Comparison(rows[:2], CLASSES, ["Road"], 0.5)) == []
    assert any("Seconds of central and central-wide are" in note for note in notes(
        Comparison(rows, CLASSES, ["Road"], 0.5)))


def test_the_cost_of_a_target_is_that_of_the_first_round_that_reaches_it(comparison):
    _, avg, local = comparison.rows
    assert costs(avg, 0.55) == [(1, 5.0, 3.0), (2, 10.0, 4.5)]  # bytes and seconds of round 0 included
    assert costs(avg, 0.65) == [(2, 10.0, 4.5)] and costs(local, 0.55) == []
    assert trial(0.1, None, 0.6).cost(0.5) == (2, 10.0, 4.5)  # round 1 was not scored
    assert default_target(comparison.rows) == pytest.approx(0.9 * 0.6)  # avg's: central's 0.7 sends nothing
    assert default_target([local]) == pytest.approx(0.9 * 0.3)
    cells = {row[0]: row[1:] for row in cost_table(comparison).rows}
    assert cells["avg"][0] == "1.5 ± 0.7" and cells["local"][:3] == ["–", "–", "–"]
    assert cells["avg"][3:] == ["2", "10.0", "40", "20"]
    reached = {row[0]: row[1] for row in cost_table(replace(comparison, target=0.65)).rows}
    assert reached["avg"] == "2.0 (1/2)"


def test_worst_cars_and_rare_classes(comparison):
    cells = {row[0]: row for row in score_table(comparison).rows}
    assert cells["central"][5] == format_spread(spread([0.6, 0.8]), 2)
    assert cells["avg"][5] == format_spread(spread([0.3, 0.2]), 2)
    assert cells["local"][5] == "–"  # has no models
    assert cells["avg"][6] == format_spread(spread([1.0, 1.4]), 2)
    assert comparison.rows[0].trials[0].class_iou(["Pole"]) is None
    assert comparison.rows[0].trials[0].class_iou(["Pole", "Sky"]) == 0.8
    pixels, scored = np.array([50, 1, 0, 30, 20, 10, 5, 2]), np.array([1, 1, 1, 1, 1, 1, 1, 0])
    assert rarest("abcdefgh", pixels, scored) == ["b", "g"]  # a third of the six that occur in both
    assert rarest("ab", np.array([2, 1]), np.ones(2)) == ["b"]


def test_drives_have_a_table_and_columns_if_there_are_several(comparison):
    """Means over the seeds that know them. Catches a run from before drives were told apart, which knows none."""
    assert comparison.drives == [] and drive_table(comparison).rows == []
    assert not any("by drive" in note for note in notes(comparison)) and "miou d0" not in run_csv(comparison)
    avg, local = comparison.rows[1:]
    for trial_of, miou in zip(avg.trials, (0.25, 0.75), strict=True):
        trial_of.records[1]["global"]["drive_miou"] = {"d0": 0.1, "d1": 0.1}  # not the last round
        trial_of.records[2]["global"]["drive_miou"] = {"d0": miou, "d1": 0.5}
    local.trials[0].records[2]["global"]["drive_miou"] = {"d0": 0.3, "d1": None}
    assert drive_table(comparison)[:3] == ("mIoU by drive, val split", ["", "central", "avg", "local"], [
        ["d0", "–", "0.500 ± 0.354", "0.300"], ["d1", "–", "0.500 ± 0.000", "–"]])
    runs = list(csv.DictReader(io.StringIO(run_csv(comparison))))
    assert [run["miou d0"] for run in runs] == ["", "", "0.25", "0.75", "0.3"]
    assert list(csv.DictReader(io.StringIO(summary_csv(comparison))))[1]["miou d0"] == "0.5"
    assert any("mIoU by drive" in note for note in notes(comparison))


def test_runs_are_grouped_by_algorithm_and_by_what_else_differs():
    rows = rows_of([trial(0.1, 0.5, lr=0.1), trial(0.1, 0.5, lr=0.2), trial(0.1, 0.5, lr=0.1, seed=1, threads=3),
                    trial(0.1, 0.5, algo="prox", lr=0.3, mu=0.1)])
    assert [(row.label, len(row.trials)) for row in rows] == [("avg lr 0.1", 2), ("avg lr 0.2", 1), ("prox", 1)]
    assert differences(rows) == {"lr": ["0.1", "0.2", "0.3"]}  # mu: avg has none, which is no difference


@pytest.mark.parametrize("name", [{"data": "camvid", "data_root": "x"}, {"eval_split": "test"}])
def test_scores_of_other_scenes_are_refused(name):
    with pytest.raises(SettingsError, match=f"--{next(iter(name)).replace('_', '-')} .* cannot be compared"):
        rows_of([trial(0.1, 0.5), trial(0.1, 0.5, algo="prox", **name)])


def test_rows_may_hold_out_other_drives_if_they_are_scored_on_the_same_scenes():
    """What a drive is worth to the others. Catches scores on two held-out drives in one table."""
    rows = rows_of([trial(0.1, 0.5, eval_split="val"), trial(0.1, 0.5, eval_split="val", hold_out_drive="d0")])
    assert differences(rows) == {} and len(rows) == 2
    with pytest.raises(SettingsError, match=r"has --hold-out-drive d0 and .* d1, so that their scores cannot"):
        rows_of([trial(0.1, 0.5, hold_out_drive=drive) for drive in ("d0", "d1")])
    assert Comparison(rows, CLASSES, [], 0.5).scored.name == "val split"


def test_different_data_of_one_name_are_refused_and_are_not_called_one_run():
    """Seeds of one row, and runs of one seed."""
    for seed in (0, 1):
        with pytest.raises(SettingsError, match=r"runs/avg-0 and runs/avg-. were scored on different scenes"):
            rows_of([trial(0.1, 0.5), trial(0.1, 0.5, seed=seed, on=("other", "train"))])
        with pytest.raises(SettingsError, match=r"runs/avg-0 and runs/avg-. were trained on different scenes"):
            rows_of([trial(0.1, 0.5), trial(0.1, 0.5, seed=seed, on=("val", "other"))])
    assert len(rows_of([trial(0.1, 0.5), trial(0.1, 0.5, cars=9, on=("val", "more"))])) == 2  # more cars, more streets


def test_models_of_cars_are_in_their_order(tmp_path):
    run = PastRun(RunDirectory(tmp_path), Settings(algo="local"))
    run.directory.checkpoints.mkdir()
    for name in (*(f"car-{car:02d}-d{car}" for car in range(102)), "car-00003-000001", "car-mine"):
        (run.directory.checkpoints / f"{name}.safetensors").touch()
    assert [path.stem for path in run.directory.weights()] == [f"car-{car:02d}-d{car}" for car in range(102)]


def test_a_run_played_twice_is_refused():
    with pytest.raises(SettingsError, match="played twice"):
        rows_of([trial(0.1, 0.5), trial(0.1, 0.5, threads=2)])


def test_a_curve_has_the_rounds_that_all_seeds_have_and_the_least_and_most_of_them():
    row, = rows_of([trial(0.1, 0.4, None, 0.6), trial(0.1, 0.2, 0.5, 0.8, seed=1)])
    found = curve(row, "megabytes")
    assert found.amount == [0, 5, 15] and found.mean == pytest.approx([0.1, 0.3, 0.7])
    assert found.least == [0.1, 0.2, 0.6] and found.most == [0.1, 0.4, 0.8]
    assert curve(row, "round").amount == [0, 1, 3] and curve(row, "sequential_steps").amount == [0, 10, 30]


def test_the_best_learning_rate_is_chosen_and_the_edge_of_the_grid_told():
    low, middle, high = (("lr", 0.1),), (("lr", 0.2),), (("lr", 0.4),)
    tuning = Tuning("val", {"avg": {low: 0.3, middle: 0.5, high: None}, "prox": {low: 0.6, middle: 0.6, high: 0.1},
                            "dyn": {low: None, middle: None, high: None}})
    assert [tuning.chosen(algo) for algo in (*tuning.scores, "local")] == [middle, low, None, ()]
    said = warnings(Comparison(rows_of([trial(0.1, 0.5)]), CLASSES, ["Road"], 0.5, tuning))
    assert [one for one in said if "edge" in one] == [
        "prox is best at lr 0.1, the edge of what was tried: a better value may lie beyond"]
    assert any("chosen on the val split" in one for one in said)
    assert tuning_table(tuning).rows[0] == ["avg", "0.300", "0.500", "–", "0.2"]


def test_a_value_that_is_a_word_is_compared_with_numbers():
    """An option that may be none. Catches an order that only values of one type have."""
    tuning = Tuning("val", {"mine": {(("limit", "none"),): 0.5, (("limit", 3.0),): 0.5, (("limit", 10.0),): 0.5}})
    assert tuning.chosen("mine") == (("limit", 3.0),) and tuning.at_edge("mine") == ["limit"]


def test_of_a_grid_every_combination_is_listed_and_each_edge_told():
    """Catches an edge of words, or of what has one number."""
    grid = [(("lr", lr), ("rho", rho), ("kind", "soft")) for lr in (0.1, 0.2) for rho in ("auto", "0.5", "2", "8")]
    tuning = Tuning("val", {"admm": dict(zip(grid, (0.1, 0.2, 0.3, 0.4, 0.1, 0.9, 0.3, None), strict=True))})
    assert tuning.chosen("admm") == (("lr", 0.2), ("rho", "0.5"), ("kind", "soft"))
    assert tuning.at_edge("admm") == ["lr", "rho"]
    table = tuning_table(tuning)
    assert table.rows[5] == ["admm", "lr 0.2, rho 0.5, kind soft", "0.900", "yes"]
    assert table.rows[7][2:] == ["–", ""] and len(table.rows) == 8


def test_the_warnings_of_runs_are_those_of_their_comparison():
    """Catches a run that has diverged and stands in a table without a word."""
    diverging = trial(0.1, 0.2, 0.3)
    diverging.records[2]["warning"] = "the step of theta is 5, over 10 times its usual 0.2"
    said = warnings(Comparison(rows_of([diverging, trial(0.1, 0.5, 0.4, seed=1)]), CLASSES, ["Road"], 0.5))
    assert [line for line in said if "step of theta" in line] == [
        f"{diverging.path}, round 2: the step of theta is 5, over 10 times its usual 0.2"]


def test_what_makes_rows_unlike_is_warned_of():
    rows = rows_of([trial(0.1, 0.5, rounds=3, weighting="images", images=(8, 9)),
                    trial(0.1, 0.5, algo="prox", weighting="uniform", images=(8, 9))])
    said = " ".join(warnings(Comparison(rows, CLASSES, ["Road"], 0.5)))
    assert "runs/avg-0 has played 1 of 3 rounds" in said and "--weighting" in said and "numbers of rounds" in said
    equal = rows_of([trial(0.1, 0.5, weighting="images"), trial(0.1, 0.5, algo="prox", weighting="uniform")])
    assert warnings(Comparison(equal, CLASSES, ["Road"], 0.5)) == []  # equal cars: the two weightings are one


def test_one_seed_claims_no_spread(comparison):
    assert any("± is the sample standard deviation" in note for note in notes(comparison))
    single = replace(comparison, rows=rows_of([trial(0.1, 0.5)]))
    assert not any("±" in note for note in notes(single)) and "±" not in str(score_table(single).rows)
    assert any(note.startswith("One seed each") for note in notes(single))


def test_latex_is_escaped_and_has_a_row_an_algorithm(comparison):
    assert escape("a_b&50%{x}\\ -1") == r"a\_b\&50\%\{x\}\textbackslash{} -1"
    assert escape("-0.100 ± 0.2") == r"$-$0.100 $\pm$ 0.2" and escape("–") == "--"
    own = rows_of([trial(0.1, 0.5, algo="my_pkg.mod:Mine")])
    body = [line for line in latex(replace(comparison, rows=[*comparison.rows, *own])).splitlines() if line[0] != "%"]
    assert body[0] == r"\begin{tabular}{lrrrrrrrr}" and [line for line in body if "\\\\" in line][-1].startswith(
        r"my\_pkg.mod:Mine & 1 & 0.500")
    assert len({len(re.findall(r"(?<!\\)&", line)) for line in body if line.endswith("\\\\")}) == 1


def test_csv_has_a_line_a_run_and_a_line_an_algorithm(comparison):
    odd = replace(comparison, rows=[*comparison.rows, *rows_of(
        [replace(trial(0.1, 0.5, algo="prox"), path='runs/a,"b"\nc')])])
    runs = list(csv.DictReader(io.StringIO(run_csv(odd))))
    assert len(runs) == 6 and runs[-1]["run"] == 'runs/a,"b"\nc'
    assert float(runs[3]["to_central"]) == pytest.approx(0.1) and runs[0]["to_central"] == ""  # of central itself
    assert runs[4]["rounds_to_target"] == ""
    assert runs[2]["worst_car"] == "b" and runs[2]["iou Road"] == "1.0" and runs[2]["iou Pole"] == ""
    rows = list(csv.DictReader(io.StringIO(summary_csv(comparison))))
    assert [row["label"] for row in rows] == ["central", "avg", "local"]
    assert float(rows[1]["final_miou_sd"]) == pytest.approx(0.02**0.5) and rows[2]["final_miou_sd"] == ""
    assert rows[1]["final_miou_n"] == "2" and rows[2]["mb_to_target_n"] == "0"


def test_rows_that_are_scored_with_different_views_are_told():
    """Catches a view that only one row has, which is no setting that differs, and a warning where all have the same."""
    for more, differ in (({"tile": "16x16"}, True), ({"test_flip": True}, True), ({"test_scales": "1.0"}, False)):
        rows = rows_of([trial(0.1, 0.5), trial(0.1, 0.5, algo="prox", **more)])
        said = " ".join(warnings(Comparison(rows, CLASSES, ["Road"], 0.5)))
        assert ("scored with different views of the pictures" in said) == differ


@pytest.mark.parametrize(("model", "column"), [("mean_of_cars", "mean of cars"), ("averaged", "averaged")])
def test_a_model_beside_theta_is_a_column_of_those_comparisons_that_scored_it(comparison, model, column):
    """Catches the score of theta in its place, and a row without it that counts as 0."""
    table = score_table(comparison)
    assert column not in table.header and f"{model}_miou" not in run_csv(comparison)
    for index, one in enumerate(comparison.rows[1].trials):
        one.records[-1][model] = {"miou": 0.7 + 0.2 * index}
    table = score_table(comparison)
    cells = {row[0]: dict(zip(table.header, row, strict=True)) for row in table.rows}
    assert cells["avg"][column] == "0.800 ± 0.141" and cells["central"][column] == "–"
    assert any(note.lower().startswith(f"{column}:") for note in notes(comparison))
    assert [row[f"{model}_miou"] for row in csv.DictReader(io.StringIO(run_csv(comparison)))] == [
        "", "", "0.7", "0.8999999999999999", ""]


def has(path, colour: str) -> bool:
    rgb = [int(colour[place:place + 2], 16) for place in (1, 3, 5)]
    return bool(((np.asarray(Image.open(path).convert("RGB")) == rgb).all(-1)).sum() > 50)


def test_figures_have_the_colours_of_the_algorithms(comparison, tmp_path):
    path = tmp_path / "figure.png"
    for figure in (curves_figure(comparison.rows), classes_figure(comparison.rows, CLASSES)):
        save_png(figure, path)
        assert all(has(path, colour) for colour in ("#000000", "#777777", "#0072B2")) and not has(path, "#D55E00")


def test_curves_are_drawn_over_rounds_traffic_pictures_and_steps():
    """Catches a panel that is missing or shows another amount, and yardsticks that look alike where nothing is sent."""
    trials = [trial(0.1, 0.5, work=(40, 7)), trial(0.1, 0.6, algo="central"), trial(0.1, 0.5, algo="central-wide")]
    for one in (record for each in trials[1:] for record in each.records):
        one["bytes_up"] = one["bytes_down"] = 0
    panels = {panel.get_xlabel().split()[0]: panel.get_lines() for panel in curves_figure(rows_of(trials)).axes}
    ends = {name: float(lines[0].get_xdata()[-1]) for name, lines in panels.items()}
    assert ends == {"round": 1, "MB": 5, "pictures": 40, "sequential": 7}
    assert len({str(line._unscaled_dash_pattern) for line in panels["MB"]}) == 3


def test_a_report_is_written_whole_and_says_what_is_in_doubt(comparison, tmp_path, capsys):
    """Rows without models are in the tables, and only those with some in the pictures."""
    trials = [one for row in comparison.rows for one in row.trials]
    shown = Shown(["s0", "s1"], np.zeros((2, 30, 40, 3), np.uint8), np.zeros((2, 30, 40), np.uint8))
    guess = np.ones((2, 30, 40), np.uint8)  # Building's colour
    findings = Findings(trials, CAMVID_11, np.arange(1, 12), np.ones(11, np.int64), shown, {"runs/avg-0": guess})
    judged = judge(findings, None, None)
    assert judged.target == pytest.approx(0.54) and judged.rare == ["Sky", "Building", "Pole"]
    write_report(judged, findings, ["prox-0 failed: left out"], "fedsim compare <&>", tmp_path)
    said, page = capsys.readouterr().out, (tmp_path / "index.html").read_text()
    assert "WARNING: prox-0 failed: left out" in said and "prox-0 failed: left out" in page
    assert "fedsim compare &lt;&amp;&gt;" in page and "0.600 ± 0.141" in page and "http" not in page.replace(
        "http://www.w3.org", "")
    assert {path.name for path in tmp_path.iterdir()} == {
        "index.html", "report.md", "table.csv", "summary.csv", "table.tex", "curves.png", "classes.png", "scenes.png"}
    assert has(tmp_path / "scenes.png", "#800000")
    assert base64.b64encode((tmp_path / "scenes.png").read_bytes()).decode() in page
    (tmp_path / "table.csv").unlink()
    (tmp_path / "table.csv").mkdir()
    with pytest.raises(OutputError, match=r"cannot write the report in .* \(Is a directory\)"):
        write_report(judged, findings, [], "", tmp_path)
    save_png(scenes_figure(shown, {}, CAMVID_11), tmp_path / "none.png")
    assert Spread(0.1, None, 1) == spread([0.1, None])


def test_a_grid_may_try_options_of_the_loss():
    """Catches values that take the place of other options of the loss, and an edge of the grid that nobody is told."""
    tried = candidates("avg", {"loss_option": ["keep=0.5", "keep = 0.25"]})
    settings = {"loss": "ohem", "loss_option": {"threshold": "0.9"}}
    assert [with_candidate(settings, one)["loss_option"] for one in tried] == [
        {"threshold": "0.9", "keep": "0.5"}, {"threshold": "0.9", "keep": "0.25"}]
    assert as_arguments(with_candidate(settings, tried[1])) == [
        "--loss", "ohem", "--loss-option", "threshold=0.9", "--loss-option", "keep=0.25"]
    assert Tuning("val", {"avg": {tried[0]: 0.3, tried[1]: 0.2}}).at_edge("avg") == ["loss_option"]


def test_a_grid_may_try_an_option_without_a_value(tmp_path, monkeypatch):
    """Catches a candidate that no command line can ask for, so that each of its runs fails."""
    (tmp_path / "own_of_a_grid.py").write_text(
        "import dataclasses\nfrom fedsim.algorithms import FedAvg\n\n"
        "@dataclasses.dataclass(frozen=True)\nclass Mine(FedAvg):\n    limit: float | None = None\n")
    monkeypatch.syspath_prepend(tmp_path)
    tried = candidates("own_of_a_grid:Mine", {"limit": ["none", "3"]})
    assert [as_arguments(with_candidate({}, one)) for one in tried] == [
        ["--option", "limit=none"], ["--option", "limit=3.0"]]
