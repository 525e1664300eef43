"""Histogram Bayes: the score to beat."""

import tracemalloc

import numpy as np
import pytest
import torch

from fedsim.classes import VOID
from fedsim.evaluation import baselines, metrics
from fedsim.evaluation.baselines import COLUMNS, LEVELS, ROWS, add_scene, make_counts, most_frequent

CLASSES = 4


def scenes(count: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pictures half as fine as their labels, which have some void."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, CLASSES, (count, 24, 32), np.uint8)
    labels[random.random(labels.shape) < 0.1] = VOID
    return random.integers(0, 256, (count, 3, 12, 16), np.uint8), labels


def count(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    counts = make_counts(CLASSES)
    for image, label in zip(images, labels, strict=True):
        add_scene(counts, image, label)
    return counts


def predict(counts: np.ndarray, image: np.ndarray, size: tuple[int, int], by_place: bool) -> np.ndarray:
    """Predict pixel by pixel, from the rule as a paper would print it: (height, width) uint8."""
    by_colour, prediction = counts.sum((0, 1)), np.empty(size[::-1], np.uint8)
    for y, x in np.ndindex(prediction.shape):
        pixel = image[:, int((y + 0.5) * image.shape[1] / size[1]), int((x + 0.5) * image.shape[2] / size[0])]
        red, green, blue = (pixel // 32).astype(int)
        colour = red * 64 + green * 8 + blue
        here = counts[y * ROWS // size[1], x * COLUMNS // size[0], colour] if by_place else np.zeros(CLASSES)
        prediction[y, x] = next(c for c in (here, by_colour[colour], by_colour.sum(0)) if c.any()).argmax()
    return prediction


def test_every_labelled_pixel_is_counted_once_under_its_class():
    images, labels = scenes()
    counts = count(images, labels)
    assert counts.shape == (ROWS, COLUMNS, LEVELS**3, CLASSES) and counts.dtype == np.int64
    assert counts.reshape(-1, CLASSES).sum(0).tolist() == [(labels == c).sum() for c in range(CLASSES)]


def test_counts_of_cars_add_up_to_the_counts_of_all():
    images, labels = scenes(20)
    assert np.array_equal(sum(count(images[i::3], labels[i::3]) for i in range(3)), count(images, labels))


@pytest.mark.parametrize("at_once", [1, 7 * 32, 2**20])
@pytest.mark.parametrize("by_place", [False, True])
@pytest.mark.parametrize("size", [(32, 24), (30, 25), (9, 50)])
def test_scores_are_those_of_predictions_by_bayes_rule_pixel_for_pixel(monkeypatch, by_place, size, at_once):
    """In blocks of one row, of some rows, and of a whole picture. Catches rows of one block counted at another's."""
    monkeypatch.setattr(baselines, "PIXELS_AT_ONCE", at_once)
    trained = count(*scenes())
    images, _ = scenes(3, seed=1)
    labels = np.random.default_rng(2).integers(0, CLASSES, (3, *size[::-1]), np.uint8)
    labels[:, ::5] = VOID
    tally = baselines.confusion(most_frequent(trained, by_place), count(images, labels))
    guesses = np.stack([predict(trained, image, size, by_place) for image in images])
    assert np.array_equal(tally, metrics.confusion(labels, guesses, CLASSES).numpy())
    assert len(np.unique(guesses)) == CLASSES


def test_colours_that_tell_the_class_are_enough():
    """Catches channels or levels mixed up: the classes differ in one channel each."""
    _, labels = scenes()
    labels = labels[:, ::2, ::2] % CLASSES  # no void
    colours = np.array([[10, 10, 10], [200, 10, 10], [10, 200, 10], [10, 10, 200]], np.uint8)
    counts = count(colours[labels].transpose(0, 3, 1, 2), labels)
    assert metrics.scores(torch.from_numpy(baselines.confusion(most_frequent(counts, False), counts))).miou == 1


def test_places_tell_what_colours_cannot():
    """Catches rows for columns: one colour everywhere, the class a matter of the cell."""
    cells = np.random.default_rng(0).integers(0, CLASSES, (ROWS, COLUMNS))
    counts = count(np.full((1, 3, ROWS, COLUMNS), 90, np.uint8), np.kron(cells, np.ones((2, 2))).astype(np.uint8)[None])
    by_place, anywhere = (baselines.confusion(most_frequent(counts, which), counts) for which in (True, False))
    assert np.trace(by_place) == by_place.sum() and (anywhere.sum(0) > 0).sum() == 1


def test_the_unseen_falls_back_to_the_colour_and_then_to_the_most_frequent_class():
    labels = np.full((1, ROWS, COLUMNS), 2, np.uint8)
    images = np.full((1, 3, ROWS, COLUMNS), 90, np.uint8)
    labels[0, 0, 0], images[0, :, 0, 0] = 3, 200  # light only in the first cell, and there of class 3
    table = most_frequent(count(images, labels), True)
    light, unseen = (200 // 32) * 73, (10 // 32) * 73
    assert (table[:, :, light] == 3).all() and (table[:, :, unseen] == 2).all()


def test_void_is_not_counted():
    images, labels = scenes()
    assert count(images, np.full_like(labels, VOID)).sum() == 0


def test_memory_does_not_grow_with_the_size_of_a_picture(monkeypatch):
    """8 million pixels would take 28 bytes each at once."""
    monkeypatch.setattr(baselines, "PIXELS_AT_ONCE", 2**16)
    counts, label, image = make_counts(CLASSES), np.zeros((2000, 4000), np.uint8), np.zeros((3, 2000, 4000), np.uint8)
    tracemalloc.start()
    try:
        add_scene(counts, image, label)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * label.size
    assert counts.sum() == label.size
