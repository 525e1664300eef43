import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fedsim.record.tensorboard import MAX_CARS, TensorBoard
from fedsim.scenes.classes import CAMVID_11

from .conftest import make_local_records, make_records

CAR_TAGS = {"loss/step", "loss/round", "drift", "dual_norm"}
COORDINATOR_TAGS = {"loss/round", "miou", "pixel_accuracy", "primal_residual", "dual_residual",
                    "mean_dual_norm", "rho", "lr"}


def write(directory, records, cars, losses_a_round=3, before=()):
    """before: the records of the rounds so far."""
    with TensorBoard(directory, [f"town {car}" for car in range(cars)], [*before]) as board:
        for record in records:
            present = [entry["car"] for entry in record["cars"]]
            board.log_round(record, {car: [record["round"] + step / 8 for step in range(losses_a_round)]
                                     for car in present})


def read(directory):
    events = EventAccumulator(str(directory), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    return events


def scalars(directory, tag):
    return [(event.step, event.value) for event in read(directory).Scalars(tag)]


def test_the_coordinator_has_the_documented_tags_by_round(tmp_path, records):
    write(tmp_path, records, 4)
    tags = set(read(tmp_path / "coordinator").Tags()["scalars"])
    classes = {f"class_iou/{name}" for name in CAMVID_11.names if name != "Pole"}  # null in every record
    assert tags == COORDINATOR_TAGS | classes
    found = scalars(tmp_path / "coordinator", "miou")
    assert [step for step, _ in found] == list(range(7))
    assert [value for _, value in found] == pytest.approx([record["global"]["miou"] for record in records])


def test_every_car_has_a_run_with_the_same_tags(tmp_path, records):
    write(tmp_path, records, 4)
    runs = sorted(path.name for path in tmp_path.iterdir())
    assert runs == ["car-00-town-0", "car-01-town-1", "car-02-town-2", "car-03-town-3", "coordinator"]
    for run in runs[:4]:
        assert set(read(tmp_path / run).Tags()["scalars"]) == CAR_TAGS
    assert [step for step, _ in scalars(tmp_path / "car-02-town-2", "drift")] == [1, 2, 3, 4, 5, 6]


def test_step_losses_stand_at_the_cars_own_steps_also_when_it_sat_out_rounds(tmp_path):
    """Mutation: count the round's steps instead of the car's."""
    records = make_records(rounds=4, cars=2, chosen=lambda number: [0, 1] if number % 2 else [0])
    write(tmp_path, records, 2)
    assert scalars(tmp_path / "car-01-town-1", "loss/step") == [
        (1, 1.0), (2, 1.125), (3, 1.25), (4, 3.0), (5, 3.125), (6, 3.25)]
    assert [step for step, _ in scalars(tmp_path / "car-00-town-0", "loss/step")] == list(range(1, 13))
    assert [step for step, _ in scalars(tmp_path / "car-01-town-1", "loss/round")] == [1, 3]


def test_a_round_that_was_not_evaluated_has_no_scores(tmp_path):
    write(tmp_path, make_records(rounds=4, cars=2, evaluate_every=2), 2)
    assert [step for step, _ in scalars(tmp_path / "coordinator", "miou")] == [0, 2, 4]
    assert [step for step, _ in scalars(tmp_path / "coordinator", "lr")] == [0, 1, 2, 3, 4]


def test_cars_that_never_communicate_show_their_own_scores_and_the_worst(tmp_path):
    write(tmp_path, make_local_records(rounds=2, cars=2), 2)
    assert set(read(tmp_path / "car-00-town-0").Tags()["scalars"]) == {
        "loss/step", "loss/round", "drift", "miou", "own_loss"}
    coordinator = read(tmp_path / "coordinator").Tags()["scalars"]
    assert "worst_miou" in coordinator and "rho" not in coordinator


def test_of_many_cars_the_first_are_written(tmp_path):
    write(tmp_path, make_records(rounds=1, cars=MAX_CARS + 3), MAX_CARS + 3, losses_a_round=1)
    assert len(list(tmp_path.glob("car-*"))) == MAX_CARS
    assert not list(tmp_path.glob(f"car-{MAX_CARS}-*"))


def test_a_round_can_be_read_before_the_board_is_closed(tmp_path, records):
    board = TensorBoard(tmp_path, ["a", "b", "c", "d"], [])
    board.log_round(records[1], {0: [1.0]})
    assert scalars(tmp_path / "coordinator", "miou") and scalars(tmp_path / "car-00-a", "loss/step")
    board.close()


def test_a_panel_reads_back_pixel_for_pixel(tmp_path):
    import io

    from PIL import Image

    picture = np.random.default_rng(0).integers(0, 256, (20, 31, 3), np.uint8)
    with TensorBoard(tmp_path, [], []) as board:
        board.log_panel(5, picture)
    (event,) = read(tmp_path / "coordinator").Images("panel")
    assert (event.step, event.width, event.height) == (5, 31, 20)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(event.encoded_image_string))), picture)


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
