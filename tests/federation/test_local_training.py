"""One car's local training."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scenery import CLASSES, CPU, criterion, federation, labels_of, scene_set, segnet, training

from fedsim.algorithms import Central, FedAvg
from fedsim.classes import VOID
from fedsim.data.augment import augmentation
from fedsim.data.car_scenes import CarScenes
from fedsim.data.pixels import flip, standardise
from fedsim.data.scene_set import LabelMaps
from fedsim.evaluation.metrics import confusion
from fedsim.federation.local_training import train_locally
from fedsim.federation.local_work import Steps
from fedsim.federation.optimizers import SGD
from fedsim.federation.rounds import initial_state, run_round
from fedsim.losses import Focal
from fedsim.losses.criterion import Criterion
from fedsim.models import build_model
from fedsim.models.flat import FlatModel
from fedsim.seeds import stream

SCENES = scene_set(5)


def train(model=None, local=None, *, correction=lambda w: None, **keys):
    model = model or segnet()
    scenes = CarScenes(SCENES, np.arange(5), CPU)
    return train_locally(model, scenes, local or training(), start=segnet().parameters, correction=correction,
                         **({"lr": 0.1, "round_number": 1, "car": 0} | keys))


def test_a_car_repeats_its_round_to_the_bit_whatever_was_played_before():
    """On a model that another car has used. Catches state left in optimiser, generators or gradient."""
    model, local = segnet(), training(momentum=0.9)
    first = train(model, local)
    train(model, local, car=3, round_number=7)
    model.load(model.parameters, segnet().copy_norms())
    again = train(model, local)
    assert torch.equal(again.w, first.w) and torch.equal(again.losses, first.losses)


@pytest.mark.parametrize("keys", [{"round_number": 2}, {"car": 1}])
def test_another_round_or_car_draws_differently(keys):
    assert not torch.equal(train(**keys).w, train().w)


def test_the_returned_vector_is_a_copy():
    """Catches a view: the model goes on to the next car."""
    model = segnet()
    trained = train(model)
    kept = trained.w.clone()
    train(model, car=1)
    assert torch.equal(trained.w, kept)


@pytest.mark.parametrize(("epochs", "batch_size", "steps"), [
    (1, 2, 3), (2, 2, 6), (1, 5, 1), (1, 9, 1), (3, 1, 15)])
def test_the_last_batch_of_an_epoch_may_be_small(epochs, batch_size, steps):
    """Catches a last batch that is dropped, and a count that disagrees with what is done."""
    local = training(epochs, batch_size)
    assert len(train(local=local).losses) == local.steps(5, 1, 0) == steps


def test_every_scene_is_seen_once_an_epoch():
    """Catches sampling with replacement, and epochs in one order."""
    seen = []

    class Watched(CarScenes):
        def batch(self, positions, augment=None):
            seen.append(positions.tolist())
            return super().batch(positions, augment)

    train_locally(segnet(), Watched(SCENES, np.arange(5), CPU), training(2, 2), start=segnet().parameters,
                  correction=lambda w: None, lr=0.1, round_number=1, car=0)
    first, second = ([*a, *b, *c] for a, b, c in (seen[:3], seen[3:]))
    assert sorted(first) == sorted(second) == list(range(5)) and first != second


def test_a_correction_is_added_to_each_gradient():
    """One step from the same start: w differs by lr times the correction."""
    local, extra = training(batch_size=5), torch.linspace(-1, 1, segnet().parameters.numel())
    moved = train(local=local).w - train(local=local, correction=lambda w: extra).w
    assert torch.allclose(moved, 0.1 * extra, atol=1e-6)


def test_predictions_are_tallied_as_they_were_made_over_all_steps_and_change_nothing():
    """Catches a tally of the last step, of the model after training, of void pixels, and one that moves w."""
    seen, model = [], segnet()

    class Watched(CarScenes):
        def batch(self, positions, augment=None):
            images, labels = super().batch(positions, augment)
            seen.append(labels)
            return images, labels

    outputs = []
    model.module.register_forward_hook(lambda module, inputs, logits: outputs.append(logits.detach().clone()))
    local = replace(training(epochs=2), classes=CLASSES)
    trained = train_locally(model, Watched(SCENES, np.arange(5), CPU), local, start=segnet().parameters,
                            correction=lambda w: None, lr=0.1, round_number=1, car=0)
    assert len(seen) == len(outputs) == 6 and any((labels == VOID).any() for labels in seen)
    assert torch.equal(trained.confusion, sum(confusion(labels, logits.argmax(1), CLASSES)
                                              for labels, logits in zip(seen, outputs, strict=True)))
    without = train(local=training(epochs=2))
    assert without.confusion is None and torch.equal(without.w, trained.w)


def test_a_gradient_norm_is_the_losses_alone():
    """One step without momentum: ‖w - start‖ = lr ‖g‖. Catches the norm of the gradient after the correction."""
    start, trained = segnet().parameters, train(local=training(batch_size=5))
    moved = torch.linalg.vector_norm(trained.w - start)
    assert trained.gradient_norms.tolist() == pytest.approx([float(moved) / 0.1], rel=1e-3)
    corrected = train(local=training(batch_size=5), correction=lambda w: 10 * w)
    assert torch.equal(corrected.gradient_norms, trained.gradient_norms)


def test_a_clipped_gradient_has_the_norm_it_may_have():
    """One step without momentum moves by lr times the bound, and the correction is not clipped.

    Catches a clip of each layer, and a recorded norm that is the clipped one.
    """
    whole = train(local=training(batch_size=5))
    length = float(whole.gradient_norms[0])
    for bound, expected in ((length / 4, length / 4), (4 * length, length)):
        trained = train(local=replace(training(batch_size=5), clip_gradient=bound))
        moved = torch.linalg.vector_norm(trained.w - segnet().parameters)
        assert float(moved) == pytest.approx(0.1 * expected, rel=1e-3)
        assert torch.equal(trained.gradient_norms, whole.gradient_norms)
    corrected = train(local=replace(training(batch_size=5), clip_gradient=length / 4), correction=lambda w: 10 * w)
    without = train(local=replace(training(batch_size=5), clip_gradient=length / 4))
    assert torch.allclose(corrected.w, without.w - 0.1 * 10 * segnet().parameters, atol=1e-6)


def plain_loop(sizes: list[int], rounds: int, epochs: int) -> torch.nn.Module:
    """Plain PyTorch on the pool, with torch.optim and the batches that the named streams draw."""
    scenes, model = scene_set(sum(sizes)), segnet().module
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for number in range(1, rounds + 1):
        order, mirror = stream(5, "shuffle", number, 0), stream(5, "flip", number, 0)
        model.train()
        for _ in range(epochs):
            for batch in np.array_split(order.permutation(sum(sizes)), range(2, sum(sizes), 2)):
                images = standardise(torch.from_numpy(scenes.images[batch]))
                images = images.contiguous(memory_format=torch.channels_last)
                labels = torch.from_numpy(scenes.labels.resize(batch, (32, 24))).long()
                images, labels = flip(images, labels, torch.from_numpy(mirror.random(len(batch)) < 0.5))
                optimizer.zero_grad()
                criterion()(model(images), labels).backward()
                optimizer.step()
    return model


@pytest.mark.parametrize("algorithm", [FedAvg(), Central()], ids=["avg", "central"])
def test_one_car_is_plain_training_to_the_bit(algorithm):
    """Three rounds of two epochs, no momentum. Catches a mean that rounds, and a car that trains on less.

    Statistics are left out: a federation measures them anew after a round, a plain loop keeps running ones.
    """
    made = federation(algorithm, [5], local=training(epochs=2))
    state = initial_state(made)
    for _ in range(3):
        state = run_round(made, state).state
    plain = plain_loop([5], rounds=3, epochs=2)
    made.model.load(state.shared.theta)
    for ours, theirs in zip(made.model.module.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_running_average_of_one_car_is_plain_trainings_too():
    """With pooled statistics, to float32's rounding of one trip through moments a round."""
    made = federation(FedAvg(), [5], local=training(epochs=2), batchnorm="pooled")
    state = initial_state(made)
    for _ in range(3):
        state = run_round(made, state).state
    plain = plain_loop([5], rounds=3, epochs=2)
    norms = [layer for layer in plain.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    expected = torch.stack([torch.cat([getattr(norm, name) for norm in norms])
                            for name in ("running_mean", "running_var")])
    assert torch.allclose(state.norms.statistics, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("changes", [
    {}, {"clip_gradient": 0.05, "augmentation": augmentation("standard"), "work": Steps(3)},
    {"criterion": Criterion(torch.linspace(0.5, 2, CLASSES), 0.1, ((1.0, Focal()),)), "optimizer": SGD(0.9)}],
    ids=["plain", "clip-standard", "focal"])
def test_a_step_over_several_batches_is_a_step_over_one_large_batch(changes):
    """Three batches of two are a batch of six, and the last group has two of the eight scenes, to float32's rounding.

    On a network whose layers see each picture by itself; most of one scene is void. Catches a plain
    mean of batches, a clip or a correction in each batch, and pictures that are varied in another way.
    """
    def play(batch_size, accumulate):
        torch.manual_seed(0)
        model = FlatModel(build_model("segnet-small", CLASSES, 4, "group"), CPU)
        labels = labels_of(scene_set(8))
        labels[3, :30] = VOID
        scenes = replace(scene_set(8), labels=LabelMaps.of(labels))
        local = replace(training(2, batch_size), accumulate=accumulate, classes=CLASSES, **changes)
        trained = train_locally(model, CarScenes(scenes, np.arange(8), CPU), local, start=model.theta.clone(),
                                correction=lambda w: torch.full_like(w, 1e-3), lr=0.1, round_number=1, car=0,
                                momentum=local.optimizer.make_momentum(model.theta))
        assert len(trained.losses) == local.steps(8, 1, 0)
        assert accumulate * batch_size != 6 or local.pictures(8, 1, 0) == (14 if "work" in changes else 16)
        return trained

    parts, whole = play(2, 3), play(6, 1)
    assert torch.allclose(parts.w, whole.w, rtol=1e-4, atol=1e-6)
    assert torch.allclose(parts.losses, whole.losses, rtol=1e-5)
    assert torch.allclose(parts.gradient_norms, whole.gradient_norms, rtol=1e-4)
    assert (parts.confusion.sum(1) == whole.confusion.sum(1)).all()
    assert not torch.allclose(play(2, 1).w, whole.w, rtol=1e-4, atol=1e-6)


def test_batches_without_a_label_count_nothing_in_a_step():
    """Of a step of void pixels alone there is nothing to learn. Catches 0 / 0."""
    scenes = scene_set(4)
    void = replace(scenes, labels=LabelMaps.of(np.full((4, 36, 48), VOID, np.uint8)))
    local = replace(training(1, 2), accumulate=2, classes=None)
    start = segnet().parameters
    trained = train_locally(segnet(), CarScenes(void, np.arange(4), CPU), local, start=start,
                            correction=lambda w: None, lr=0.1, round_number=1, car=0)
    assert torch.equal(trained.w, start) and trained.losses.tolist() == [0.0]
