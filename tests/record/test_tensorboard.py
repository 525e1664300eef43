import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fedsim.record.tensorboard import MAX_CARS, TensorBoard
from fedsim.scenes.classes import CAMVID_11

from .conftest import make_local_records, make_records

CAR_TAGS = {"loss/step", "loss/round", "drift", "dual_norm"}
COORDINATOR_TAGS = {"loss/round", "miou", "pixel_accuracy", "primal_residual", "dual_residual",
                    "mean_dual_norm", "rho", "lr"}


def write(directory, records, cars, losses_a_round=3):
    with TensorBoard(directory, [f"town {car}" for car in range(cars)]) as board:
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
    board = TensorBoard(tmp_path, ["a", "b", "c", "d"])
    board.log_round(records[1], {0: [1.0]})
    assert scalars(tmp_path / "coordinator", "miou") and scalars(tmp_path / "car-00-a", "loss/step")
    board.close()


def test_a_panel_reads_back_pixel_for_pixel(tmp_path):
    import io

    from PIL import Image

    picture = np.random.default_rng(0).integers(0, 256, (20, 31, 3), np.uint8)
    with TensorBoard(tmp_path, []) as board:
        board.log_panel(5, picture)
    (event,) = read(tmp_path / "coordinator").Images("panel")
    assert (event.step, event.width, event.height) == (5, 31, 20)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(event.encoded_image_string))), picture)
