"""Histogram Bayes: the score to beat."""

import time

import numpy as np
import pytest

from fedsim.classes import VOID
from fedsim.evaluation.baselines import COLUMNS, LEVELS, ROWS, count, predict

CLASSES = 4


def scenes(count: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pictures half as fine as their labels, which have some void."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, CLASSES, (count, 24, 32), np.uint8)
    labels[random.random(labels.shape) < 0.1] = VOID
    return random.integers(0, 256, (count, 3, 12, 16), np.uint8), labels


@pytest.mark.parametrize("grid", [False, True])
def test_every_labelled_pixel_is_counted_once_under_its_class(grid):
    images, labels = scenes()
    counts = count(images, labels, CLASSES, grid)
    assert counts.shape == ((ROWS, COLUMNS) if grid else ()) + (LEVELS**3, CLASSES)
    assert counts.dtype == np.int64
    assert counts.reshape(-1, CLASSES).sum(0).tolist() == [(labels == c).sum() for c in range(CLASSES)]


@pytest.mark.parametrize("grid", [False, True])
def test_counts_of_cars_add_up_to_the_counts_of_all(grid):
    images, labels = scenes(20)  # more than are counted at once
    parts = [count(images[i::3], labels[i::3], CLASSES, grid) for i in range(3)]
    assert np.array_equal(sum(parts), count(images, labels, CLASSES, grid))


def test_counting_without_places_is_counting_over_all_places():
    images, labels = scenes()
    by_place, anywhere = (count(images, labels, CLASSES, grid) for grid in (True, False))
    assert np.array_equal(by_place.sum((0, 1)), anywhere)


def test_colours_that_tell_the_class_are_enough():
    """Catches channels or levels mixed up: the classes differ in one channel each."""
    _, labels = scenes()
    labels = labels[:, ::2, ::2] % CLASSES  # no void
    colours = np.array([[10, 10, 10], [200, 10, 10], [10, 200, 10], [10, 10, 200]], np.uint8)
    images = colours[labels].transpose(0, 3, 1, 2)
    counts = count(images, labels, CLASSES, False)
    assert np.array_equal(predict(counts, images, (16, 12)), labels)


def test_places_tell_what_colours_cannot():
    """Catches rows for columns: one colour everywhere, the class a matter of the cell."""
    cells = np.random.default_rng(0).integers(0, CLASSES, (ROWS, COLUMNS))
    labels = np.kron(cells, np.ones((2, 2))).astype(np.uint8)[None]
    images = np.full((1, 3, ROWS, COLUMNS), 90, np.uint8)
    by_place, anywhere = (count(images, labels, CLASSES, grid) for grid in (True, False))
    assert np.array_equal(predict(by_place, images, (2 * COLUMNS, 2 * ROWS)), labels)
    assert len(np.unique(predict(anywhere, images, (8, 8)))) == 1


def test_predictions_follow_bayes_rule_pixel_for_pixel():
    images, labels = scenes()
    counts = count(images, labels, CLASSES, True)
    by_colour = counts.sum((0, 1))
    new_images, _ = scenes(2, seed=1)
    predictions = predict(counts, new_images, (30, 25))
    for n, y, x in [(0, 0, 0), (0, 24, 29), (1, 13, 7), (1, 5, 22), (0, 18, 18)]:
        pixel = new_images[n, :, int((y + 0.5) * 12 / 25), int((x + 0.5) * 16 / 30)]
        red, green, blue = (pixel // 32).astype(int)
        colour = red * 64 + green * 8 + blue
        here = counts[y * ROWS // 25, x * COLUMNS // 30, colour]
        known = next(c for c in (here, by_colour[colour], by_colour.sum(0)) if c.any())
        assert predictions[n, y, x] == known.argmax()


def test_the_unseen_falls_back_to_the_colour_and_then_to_the_most_frequent_class():
    labels = np.full((1, ROWS, COLUMNS), 2, np.uint8)
    images = np.full((1, 3, ROWS, COLUMNS), 90, np.uint8)
    labels[0, 0, 0], images[0, :, 0, 0] = 3, 200  # light only in the first cell, and there of class 3
    counts = count(images, labels, CLASSES, True)
    light, unseen = np.full_like(images, 200), np.full_like(images, 10)
    assert (predict(counts, light, (COLUMNS, ROWS)) == 3).all()
    assert (predict(counts, unseen, (COLUMNS, ROWS)) == 2).all()


def test_void_is_not_counted():
    images, labels = scenes()
    assert count(images, np.full_like(labels, VOID), CLASSES, True).sum() == 0


def test_a_hundred_scenes_take_well_under_a_second():
    images = np.zeros((100, 3, 60, 80), np.uint8)
    labels = np.zeros((100, 120, 160), np.uint8)
    start = time.process_time()
    predict(count(images, labels, CLASSES, True), images, (160, 120))
    assert time.process_time() - start < 1
