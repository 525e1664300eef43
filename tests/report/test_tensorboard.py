"""Event files, read back as TensorBoard reads them."""

import importlib
import io
import json
import re
import signal
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY_DRIVES
from records import make_local_records, make_records
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import api_pb2, metadata

from fedsim.classes import CAMVID_11
from fedsim.experiment import run as whole_run
from fedsim.federation.federation import Car
from fedsim.main import main
from fedsim.record.round_record import CarDetail
from fedsim.report.tensorboard import pages
from fedsim.report.tensorboard.board import MAX_CARS, TensorBoard

CLASSES = {f"class_iou/{name}" for name in CAMVID_11.names if name != "Pole"}  # Pole is null in every record
CAR_TAGS = {"train_loss/step", "train_loss/round", "train_miou", "train_class_iou/Road", "drift", "gradient_norm",
            "weight_norm", "pictures_per_second", "seconds/local"}
COORDINATOR_TAGS = {
    "loss", "miou", "pixel_accuracy", "lr", "theta_norm", "step_norm", "bytes_up", "bytes_down", "pictures_per_second",
    "seconds/local", "seconds/combine", "seconds/evaluate", "seconds/total"} | CLASSES
ADMM_TAGS = {"primal_residual", "dual_residual", "mean_dual_norm", "rho"}
RESULT = [f"result/{key}" for key in ("loss", "miou", "pictures", "pixel_accuracy", "sequential_steps")]
SETTINGS = {"algo": "admm", "cars": 4, "rounds": 6, "lr": 0.3, "data": "camvid", "data_root": "/secret", "threads": 2}
TOWNS, PIXELS = [Car("town|0", 9), Car("fog", 3)], np.array([[30, 10] + 9 * [0], 11 * [0]])
SMALL = ["--rounds", "2", "--image-size", "32x24", "--width", "4", "--threads", "1", "--data", "camvid"]


def write(directory, records, cars, losses_a_round=3, before=()):
    """before: the records of the rounds so far."""
    with TensorBoard(directory, [f"town {car}" for car in range(cars)], [*before]) as board:
        for record in records:
            losses = [record["round"] + step / 8 for step in range(losses_a_round)]
            board.log_round(record, {entry["car"]: detail(losses) for entry in record["cars"]})


def detail(losses, class_iou=None):
    return CarDetail(losses, 1.5, {"Road": 0.75, "Pole": None}, class_iou or {})


def read(directory):
    events = EventAccumulator(str(directory), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    return events


def scalars(directory, tag):
    return [(event.step, event.value) for event in read(directory).Scalars(tag)]


def test_the_coordinator_has_the_documented_tags_by_round(tmp_path, records):
    write(tmp_path, records, 4)
    assert set(read(tmp_path / "coordinator").Tags()["scalars"]) == COORDINATOR_TAGS | ADMM_TAGS
    found = scalars(tmp_path / "coordinator", "miou")
    assert [step for step, _ in found] == list(range(7))
    assert [value for _, value in found] == pytest.approx([record["global"]["miou"] for record in records])


def test_every_car_has_a_run_with_the_same_tags(tmp_path, records):
    write(tmp_path, records, 4)
    runs = sorted(path.name for path in tmp_path.iterdir())
    assert runs == ["car-00-town-0", "car-01-town-1", "car-02-town-2", "car-03-town-3", "coordinator",
                    "result"]
    for run in runs[:4]:
        assert set(read(tmp_path / run).Tags()["scalars"]) == CAR_TAGS | {"dual_norm"}
    assert [step for step, _ in scalars(tmp_path / "car-02-town-2", "drift")] == [1, 2, 3, 4, 5, 6]
    assert scalars(tmp_path / "car-02-town-2", "train_class_iou/Road") == [(number, 0.75) for number in range(1, 7)]


def test_step_losses_stand_at_the_cars_own_steps_also_when_it_sat_out_rounds(tmp_path):
    """Mutation: count the round's steps instead of the car's."""
    records = make_records(rounds=4, cars=2, chosen=lambda number: [0, 1] if number % 2 else [0])
    write(tmp_path, records, 2)
    assert scalars(tmp_path / "car-01-town-1", "train_loss/step") == [
        (1, 1.0), (2, 1.125), (3, 1.25), (4, 3.0), (5, 3.125), (6, 3.25)]
    assert [step for step, _ in scalars(tmp_path / "car-00-town-0", "train_loss/step")] == list(range(1, 13))
    assert [step for step, _ in scalars(tmp_path / "car-01-town-1", "train_loss/round")] == [1, 3]


def test_a_round_that_was_not_evaluated_has_no_scores(tmp_path):
    write(tmp_path, make_records(rounds=4, cars=2, evaluate_every=2), 2)
    assert [step for step, _ in scalars(tmp_path / "coordinator", "miou")] == [0, 2, 4]
    assert [step for step, _ in scalars(tmp_path / "coordinator", "lr")] == [0, 1, 2, 3, 4]


AVERAGED_TAGS = ("averaged_miou", "averaged_loss")
OWN_TEST_TAGS = {f"own_test/{name}" for name in ("mean", "worst", "others")}


def test_the_average_over_rounds_has_its_scores_in_rounds_that_have_one(tmp_path):
    """Catches the score of theta under its name."""
    records = make_records(rounds=2, cars=0)
    records[-1]["averaged"] = records[-1]["global"] | {"miou": 0.75, "loss": 0.5}
    with TensorBoard(tmp_path, [], []) as board:
        for record in records:
            board.log_round(record, {})
    assert [scalars(tmp_path / "coordinator", tag) for tag in AVERAGED_TAGS] == [[(2, 0.75)], [(2, 0.5)]]


def test_cars_that_never_communicate_show_their_own_scores_and_the_worst(tmp_path):
    """Its own loss is `loss`, as the global model's is. Catches a key of the record that has no tag."""
    with TensorBoard(tmp_path, ["a"], []) as board:
        for record in make_local_records(rounds=2, cars=1):
            board.log_round(record, {0: detail([1.0], {"Sky": 0.5, "Pole": None})} if record["cars"] else {})
    assert set(read(tmp_path / "car-00-a").Tags()["scalars"]) == CAR_TAGS | {"miou", "loss", "class_iou/Sky"}
    assert [value for _, value in scalars(tmp_path / "car-00-a", "loss")] == pytest.approx([0.4, 0.4])
    coordinator = read(tmp_path / "coordinator").Tags()["scalars"]
    assert "worst_miou" in coordinator and not ADMM_TAGS & {*coordinator}


def test_of_many_cars_the_first_are_written(tmp_path):
    write(tmp_path, make_records(rounds=1, cars=MAX_CARS + 3), MAX_CARS + 3, losses_a_round=1)
    assert len(list(tmp_path.glob("car-*"))) == MAX_CARS
    assert not list(tmp_path.glob(f"car-{MAX_CARS}-*"))


def test_a_round_can_be_read_before_the_board_is_closed(tmp_path, records):
    board = TensorBoard(tmp_path, ["a", "b", "c", "d"], [])
    board.log_round(records[1], {car: detail([1.0]) for car in range(4)})
    assert scalars(tmp_path / "coordinator", "miou") and scalars(tmp_path / "car-00-a", "train_loss/step")
    board.close()


def test_a_panel_reads_back_pixel_for_pixel(tmp_path):
    from PIL import Image

    picture = np.random.default_rng(0).integers(0, 256, (20, 31, 3), np.uint8)
    with TensorBoard(tmp_path, [], []) as board:
        board.log_panel(5, picture)
    (event,) = read(tmp_path / "coordinator").Images("panel")
    assert (event.step, event.width, event.height) == (5, 31, 20)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(event.encoded_image_string))), picture)


def values(directory, plugin):
    """Tag -> what a plugin finds, of values that are no scalars."""
    read_back = read(directory)
    return {tag: (read_back.Tensors(tag), read_back.SummaryMetadata(tag).plugin_data.content)
            for tag in read_back.PluginTagToContent(plugin)}


def test_the_layout_has_a_place_for_every_tag_of_a_chart_and_for_duals_only_where_there_are_some(tmp_path):
    """Catches a tag that was renamed in one place, and empty charts."""
    for duals in (True, False):
        with TensorBoard(tmp_path / str(duals), [], []) as board:
            board.describe(pages.lay_out_charts(duals))
        (event,), _ = values(tmp_path / str(duals) / "coordinator", "custom_scalars")[pages.LAYOUT]
        page = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])
        patterns = [tag for category in page.category for chart in category.chart for tag in chart.multiline.tag]
        known = {*COORDINATOR_TAGS, *CAR_TAGS, *AVERAGED_TAGS, *OWN_TEST_TAGS, "dual_norm", "worst_miou",
                 *(ADMM_TAGS if duals else ())}
        assert all(any(re.match(pattern, tag) for tag in known) for pattern in patterns)
        assert ("^primal_residual$" in patterns) == duals and "^train_loss/round$" in patterns


def test_runs_are_compared_by_settings_and_latest_scores(tmp_path, records):
    """Catches paths and threads among the settings, metrics that crowd the page, and a second start after --resume."""
    for before, rounds in ((0, 3), (3, 6)):
        with TensorBoard(tmp_path, ["a", "b", "c", "d"], records[:before]) as board:
            board.compare(pages.list_settings("runs/one", SETTINGS | {"rounds": rounds}))
            for record in records[before:rounds]:
                board.log_round(record, {entry["car"]: detail([]) for entry in record["cars"]})
            board.compare(pages.mark_end())
    found = values(tmp_path / "result", "hparams")
    assert set(found) == {*pages.SETTINGS} and all(len(events) == 1 for events, _ in found.values())
    start = metadata.parse_session_start_info_plugin_data(found[metadata.SESSION_START_INFO_TAG][1])
    assert start.group_name == "runs/one" and start.hparams["rounds"].number_value == 6
    assert start.hparams["algo"].string_value == "admm" and not {"data_root", "threads"} & {*start.hparams}
    end = metadata.parse_session_end_info_plugin_data(found[metadata.SESSION_END_INFO_TAG][1])
    assert end.status == api_pb2.STATUS_SUCCESS
    assert sorted(read(tmp_path / "result").Tags()["scalars"]) == RESULT
    assert [step for step, _ in scalars(tmp_path / "result", "result/miou")] == [0, 1, 2, 3, 4, 5]


def test_what_every_car_has_to_train_on_is_a_text_and_a_picture(tmp_path):
    """A car without a labelled pixel too. Catches a division by nothing, and a name that breaks the table."""
    with TensorBoard(tmp_path, [], []) as board:
        board.describe(pages.tabulate_partition(TOWNS, CAMVID_11, PIXELS),
                       pages.draw_partition(TOWNS, CAMVID_11, PIXELS))
    (event,), _ = values(tmp_path / "coordinator", "text")["partition/table"]
    rows = event.tensor_proto.string_val[0].decode().splitlines()
    assert rows[-2].startswith("| 00 town\\|0 | 9 | 0.0000 | 75.0 | 25.0 | – |")
    assert rows[-1].startswith("| 01 fog | 3 | – | – |")
    (drawn,) = read(tmp_path / "coordinator").Images("partition/heat_map")
    assert drawn.step == 0 and drawn.encoded_image_string.startswith(b"\x89PNG") and drawn.width > drawn.height


def test_a_run_that_goes_on_leaves_the_documented_tags_once(tiny_camvid, tmp_path, monkeypatch):
    """FedADMM whose cars keep norms of their own, scored on several drives and on own scenes, has all tags but one.

    Catches a tag that docs/tensorboard.md lacks, one that it alone has, and events that stand there twice.
    """
    out, split, real = tmp_path / "run", tmp_path / "split.json", whole_run.simulate
    scenes = [f"{drive}_{number:05d}" for drive, count in TINY_DRIVES.items() for number in range(count)]
    split.write_text(json.dumps({"format": 1, "cars": [
        {"name": name, "scenes": scenes[own::2][1:], "own_test": scenes[own::2][:1]}
        for own, name in enumerate("ab")]}))

    def simulate(federation, state):
        for result in real(federation, state):
            if result.state.round == 1:
                signal.raise_signal(signal.SIGTERM)
            yield result

    with monkeypatch.context() as patch:
        patch.setattr(whole_run, "simulate", simulate)
        assert main([*SMALL, "--data-root", str(tiny_camvid), "--partition", str(split), "--batchnorm", "local",
                     "--average-weights", "ema:0.5", "--eval-split", "train",
                     "--out", str(out)]) == 128 + signal.SIGTERM
    assert main(["--resume", str(out)]) == 0
    runs = {path.name: read(path) for path in (out / "tensorboard").iterdir()}
    assert len(runs) == 4
    page = (Path(__file__).parents[2] / "docs" / "tensorboard.md").read_text()
    documented = {tag for line in page.splitlines() if line.startswith("| `")
                  for tag in re.findall(r"`([\w/]+)`", line.split("|")[1])}
    found = {re.sub("drive_miou/.+", "drive_miou/DRIVE", re.sub("class_iou/.+", "class_iou/CLASS", tag))
             for run in runs.values() for kind in ("scalars", "images", "tensors") for tag in run.Tags()[kind]}
    hidden = {pages.LAYOUT, *pages.SETTINGS}
    assert found - documented == hidden
    assert documented - found == {"worst_miou"}
    for name, run in runs.items():
        for tag in run.Tags()["scalars"]:
            steps = [event.step for event in run.Scalars(tag)]
            assert steps == sorted({*steps}), f"{name}: {tag}"
            if tag == "train_loss/step":
                assert steps == list(range(1, len(steps) + 1))
            elif name.startswith("car"):
                assert steps == [1, 2], f"{name}: {tag}"
    assert {"miou", "loss", "class_iou/Sky"} <= {*runs["car-00-a"].Tags()["scalars"]}
    assert [event.step for event in runs["coordinator"].Images("partition/heat_map")] == [0]
    assert [len(runs["result"].Tensors(tag)) for tag in pages.SETTINGS] == [1, 1]


def everything(directory):
    """(run, tag, step, value) of every scalar, in the order in which TensorBoard shows them."""
    return [(run.name, tag, event.step, event.value) for run in sorted(directory.iterdir())
            for tag in sorted(read(run).Tags()["scalars"]) for event in read(run).Scalars(tag)]


@pytest.mark.parametrize("last", [0, 2, 5, 6])
def test_events_of_rounds_that_come_about_again_are_there_once(tmp_path, last):
    """A car that sat out rounds too. Catches steps of a car cut by its rounds, and steps counted from 0 again."""
    records = make_records(rounds=6, cars=3, chosen=lambda number: [0, 1, 2] if number % 2 else [0, number % 3])
    for entry in (entry for record in records for entry in record["cars"]):
        entry["steps"] = 3
    write(tmp_path / "whole", records, 3)
    write(tmp_path / "killed", records, 3)
    write(tmp_path / "killed", records[last + 1:], 3, before=records[:last + 1])
    assert everything(tmp_path / "killed") == everything(tmp_path / "whole")


@pytest.mark.parametrize("last", [0, 2, 6])
@pytest.mark.parametrize(("kind", "shown"), [("event_accumulator", "Scalars"), ("plugin_event_accumulator", "Tensors")])
def test_a_tensorboard_that_is_open_while_a_run_goes_on_shows_every_step_once(tmp_path, kind, shown, last):
    """Two resumes, which it sees or misses. Catches events that it has read before they were removed."""
    accumulator = importlib.import_module(f"tensorboard.backend.event_processing.{kind}").EventAccumulator
    records = make_records(rounds=6, cars=3, chosen=lambda number: [0, 1, 2])
    for entry in (entry for record in records for entry in record["cars"]):
        entry["steps"] = 3
    write(tmp_path / "whole", records, 3)
    write(tmp_path / "killed", records, 3)
    open_ones = {run.name: accumulator(str(run), size_guidance={"scalars": 0, "tensors": 0})
                 for run in (tmp_path / "killed").iterdir()}
    for end in (min(last + 3, 6), 6):
        for run in open_ones.values():
            run.Reload()
        write(tmp_path / "killed", records[last + 1:end + 1], 3, before=records[:last + 1])
    for name, run in open_ones.items():
        run.Reload()
        again = accumulator(str(tmp_path / "whole" / name), size_guidance={"scalars": 0, "tensors": 0})
        again.Reload()
        steps, steps_again = (
            {tag: [event.step for event in getattr(one, shown)(tag)] for tag in one.Tags()[shown.lower()]}
            for one in (run, again))
        assert steps == steps_again and steps


def test_a_run_that_starts_again_from_nothing_leaves_nothing_of_what_was(tmp_path, records):
    """Catches round 0 that stands there twice."""
    write(tmp_path / "whole", records, 4)
    write(tmp_path / "killed", records[:2], 4)
    write(tmp_path / "killed", records, 4)
    assert everything(tmp_path / "killed") == everything(tmp_path / "whole")


@pytest.mark.parametrize("clock", [0.0, 1e8, 4e9])
def test_a_clock_that_goes_backwards_leaves_files_in_order(tmp_path, records, monkeypatch, clock):
    """TensorBoard reads a run's files by name. Catches the time alone in the name."""
    write(tmp_path, records[:3], 4)
    (first,) = (tmp_path / "coordinator").iterdir()
    monkeypatch.setattr("time.time", lambda: clock)
    write(tmp_path, records[3:5], 4, before=records[:3])
    write(tmp_path, records[5:], 4, before=records[:5])
    files = sorted((tmp_path / "coordinator").iterdir())
    assert files[0] == first and len(files) == 3
    assert [step for step, _ in scalars(tmp_path / "coordinator", "miou")] == list(range(7))


def test_panels_of_rounds_that_come_about_again_are_removed(tmp_path, records):
    """Catches pictures that stay for they have no scalar."""
    with TensorBoard(tmp_path, [], []) as board:
        for number in range(4):
            board.log_panel(number, np.zeros((4, 4, 3), np.uint8))
    TensorBoard(tmp_path, [], records[:3]).close()
    assert [event.step for event in read(tmp_path / "coordinator").Images("panel")] == [0, 1, 2]


@pytest.mark.parametrize("damage", [
    lambda data: data[:-3], lambda data: data[:len(data) // 2], lambda data: data[:5], lambda data: b"",
    lambda data: data[:200] + bytes([data[200] ^ 1]) + data[201:], lambda data: bytes(8) + data,
    lambda data: b"x" * 999, lambda data: (2**62).to_bytes(8, "little") + data[8:],
], ids=["torn", "half", "five bytes", "empty", "flipped", "shifted", "noise", "giant"])
def test_a_damaged_event_file_does_not_keep_a_run_from_going_on(tmp_path, records, damage):
    """TensorBoard shows what it can read of it. Catches an exception on its way to the user."""
    write(tmp_path, records[:4], 4)
    (path,) = (tmp_path / "coordinator").iterdir()
    path.write_bytes(damage(path.read_bytes()))
    write(tmp_path, records[3:], 4, before=records[:3])
    new = max((tmp_path / "coordinator").iterdir())
    assert new != path
    alone = tmp_path / "alone"
    alone.mkdir()
    new.rename(alone / new.name)
    assert [step for step, _ in scalars(alone, "miou")] == [3, 4, 5, 6]


def test_files_of_others_between_the_events_stay(tmp_path, records):
    """Catches a glob that takes TensorBoard's own profile files for ours."""
    (tmp_path / "coordinator").mkdir()
    for name in ("events.out.tfevents.1.2.host.profile", "notes.txt"):
        (tmp_path / "coordinator" / name).write_text("precious")
    write(tmp_path, records, 4)
    assert (tmp_path / "coordinator" / "notes.txt").read_text() == "precious"
    assert (tmp_path / "coordinator" / "events.out.tfevents.1.2.host.profile").read_text() == "precious"
