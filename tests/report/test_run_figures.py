import numpy as np
import pytest
from PIL import Image
from records import make_local_records, make_records
from scenery import grey_scenes

from fedsim.classes import CAMVID_11
from fedsim.report.figures import to_svg
from fedsim.report.palette import line_style
from fedsim.report.run_figures import draw_loss, draw_miou, draw_segmentation, loss_figure


def pixels(path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def shows(picture: np.ndarray, colour: str) -> bool:
    """Whether at least 100 pixels have the colour, "#rrggbb"."""
    rgb = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    return int((picture == rgb).all(-1).sum()) >= 100


@pytest.mark.parametrize(("cars", "colours", "absent"), [
    (2, ["#0072B2", "#E69F00"], ["#009E73"]),
    (6, ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"], []),
    (30, ["#0072B2"], ["#E69F00"]),  # the median alone has a colour
])
def test_the_loss_figure_draws_every_car_and_the_global_model(tmp_path, cars, colours, absent):
    records = make_records(rounds=8, cars=cars)
    for record in records:  # apart, so that no line hides another
        for entry in record["cars"]:
            entry["loss"] += entry["car"] / 10
    draw_loss(records, tmp_path / "loss.png")
    picture = pixels(tmp_path / "loss.png")
    assert picture.shape == (760, 1320, 3)
    assert all(shows(picture, colour) for colour in [*colours, "#000000"])
    assert not any(shows(picture, colour) for colour in absent)


def test_the_loss_figure_takes_partial_participation_and_rounds_not_evaluated(tmp_path):
    records = make_records(rounds=5, cars=3, chosen=lambda number: [number % 3], evaluate_every=2)
    draw_loss(records, tmp_path / "loss.png")
    assert all(shows(pixels(tmp_path / "loss.png"), colour) for colour in ["#0072B2", "#E69F00", "#009E73"])


def test_the_loss_figure_of_an_untrained_model_alone_is_drawn(tmp_path):
    draw_loss(make_records(rounds=0, cars=2), tmp_path / "loss.png")
    assert shows(pixels(tmp_path / "loss.png"), "#000000")


def test_the_miou_figure_has_two_panels_with_curve_and_baselines(tmp_path, records):
    draw_miou(records, tmp_path / "with.png", {"colour only": 0.27})
    draw_miou(records, tmp_path / "without.png", {})
    with_baseline, without = pixels(tmp_path / "with.png"), pixels(tmp_path / "without.png")
    assert with_baseline.shape == (640, 1320, 3)
    for half in (slice(0, 660), slice(660, 1320)):
        assert shows(with_baseline[:520, half], line_style("admm").colour)
        assert shows(with_baseline[:520, half], "#666666") and not shows(without[:520, half], "#666666")


@pytest.mark.parametrize("algo", ["avg", "admm", "central"])
def test_the_miou_figure_has_the_algorithms_colour(tmp_path, algo):
    """As in every other figure. Catches one colour for all."""
    draw_miou(make_records(rounds=6, cars=4, algo=algo), tmp_path / "miou.png", {})
    others = {line_style(name).colour for name in ("avg", "admm", "scaffold")} - {line_style(algo).colour}
    picture = pixels(tmp_path / "miou.png")
    assert shows(picture, line_style(algo).colour) and not any(shows(picture, colour) for colour in others)


def test_the_miou_figure_draws_the_worst_car_where_cars_never_communicate(tmp_path):
    """Catches a worst car that is left out: a second curve has more of the colour."""
    records = make_local_records(rounds=4, cars=3)
    draw_miou(records, tmp_path / "with.png", {})
    for record in records:
        del record["worst"]
    draw_miou(records, tmp_path / "without.png", {})
    grey = [119, 119, 119]
    assert line_style("local").colour == "#777777"
    inked = [(pixels(tmp_path / name)[:520] == grey).all(-1).sum() for name in ("with.png", "without.png")]
    assert inked[0] > inked[1] + 500


@pytest.mark.parametrize("cars", [3, 40])
def test_a_drawing_for_a_page_is_the_same_every_time_and_its_words_are_words(cars):
    """Catches random ids, a date, letters as outlines, and ids that two drawings of a page would share."""
    records = make_records(rounds=3, cars=cars)
    one, two = (to_svg(loss_figure(records)) for _ in range(2))
    assert one == two and one.startswith("<svg ")
    assert ">global model</text>" in one and 'id="figure_1"' not in one and 'id="axes_1"' not in one


def test_a_drawing_of_a_thousand_cars_stays_small():
    """Catches every car's line being written out: rounds times cars points."""
    assert len(to_svg(loss_figure(make_records(rounds=60, cars=1000)))) < 400_000


def test_names_in_a_drawing_are_no_markup():
    records = make_records(rounds=2, cars=2)
    for record in records:
        for entry in record["cars"]:
            entry["name"] = "<script>$x$</script>"
    assert "<script" not in to_svg(loss_figure(records)) and "&lt;script&gt;$x$" in to_svg(loss_figure(records))


@pytest.mark.parametrize("count", [1, 4])
def test_the_segmentation_figure_shows_scenes_and_a_legend_of_every_class(tmp_path, count):
    path = tmp_path / "segmentation.png"
    draw_segmentation(*grey_scenes(count), CAMVID_11, path, [f"drive-{index}" for index in range(count)])
    picture = pixels(path)
    assert 800 <= picture.shape[1] <= 1600 and 600 <= picture.shape[0] <= 1600
    assert shows(picture, "#4d4d4d")  # the scenes' grey
    for colour in [*CAMVID_11.colours, CAMVID_11.void_colour]:
        assert shows(picture[-100:], "#{:02x}{:02x}{:02x}".format(*colour))
