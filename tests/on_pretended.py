"""What fedsim does on a pretended device: every algorithm, scoring, checkpoint, resume. Prints the waits of the host.

Run as a program by tests/test_pretended_device.py. The output is one JSON object.
"""

import json
import sys
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pretended
import scenery
import torch

from fedsim.aggregation import Median
from fedsim.aggregation.exact_sum import ExactSum
from fedsim.aggregation.totals import totals
from fedsim.algorithms import ALGORITHMS, Algorithm, FedADMM, FedNova
from fedsim.data.augment import Frame, augmentation
from fedsim.data.car_scenes import CarScenes
from fedsim.distributed.devices import Place, compute_alike
from fedsim.distributed.world import World
from fedsim.evaluation.views import PLAIN, View
from fedsim.experiment.room import make_room
from fedsim.federation.attacks import Attack, Mislabelled
from fedsim.federation.averaging import Ema
from fedsim.federation.federation import Federation
from fedsim.federation.local_training import LocalTraining, train_locally
from fedsim.federation.measuring import measure_statistics
from fedsim.federation.optimizers import SGD, Adam
from fedsim.federation.precision import LossScale
from fedsim.federation.rounds import initial_state, run_round
from fedsim.federation.scoring import models, score
from fedsim.federation.state import State
from fedsim.losses import LOSSES
from fedsim.losses.criterion import Criterion
from fedsim.losses.own import OwnLoss
from fedsim.models.outputs import upsample
from fedsim.record.checkpoints import Checkpoints
from fedsim.record.weights import save_weights, weights_of
from fedsim.system.console import SILENT

DEVICE = pretended.begin()
scenery.CPU = DEVICE
WEIGHTS = torch.linspace(0.5, 2, scenery.CLASSES)
scenery.criterion = lambda: Criterion(WEIGHTS.to(DEVICE))
OWN = OwnLoss("torch.nn:CrossEntropyLoss", {})
WORLD = World(Place(), DEVICE, "nccl", "pretended", 1)
CARS = 1, 2  # in the rounds that are compared
METHODS: dict[str, tuple[Algorithm, dict]] = {
    **{name: (kind(), {}) for name, kind in ALGORITHMS.items()},
    "nova-prox": (FedNova(mu=0.5), {}), "admm-own": (FedADMM(local_start="own"), {}),
    "pooled": (ALGORITHMS["admm"](), {"batchnorm": "pooled"}), "fedbn": (ALGORITHMS["avg"](), {"batchnorm": "local"})}


def main() -> None:
    said: dict = {"step": {name: _waits_of_step(training, kind) for name, training, kind in _trainings()}}
    said["car"], said["round"], said["batch"] = {}, {}, {}
    for name, (algorithm, others) in METHODS.items():
        few, many = (_count_round(algorithm, [4] * cars, others) for cars in CARS)
        said["car"][name] = (many - few) / (CARS[1] - CARS[0])
        said["round"][name] = few - CARS[0] * said["car"][name]
    for name in ("admm-own", "local", "fedbn"):
        said["batch"][name] = _waits_of_batch(_federation(METHODS[name][0], [4, 4], METHODS[name][1]))
    said["batch"]["averaged"] = _waits_of_batch(_federation(FedADMM(), [4, 4], {"average": Ema(0.5)}))
    said["batch"]["view"] = _waits_of_batch(_federation(FedADMM(), [4, 4], {}), View((0.75, 1.0), True, (16, 16)))
    said["resumed"] = {name: _is_resumed(_federation(METHODS[name][0], [4, 4], METHODS[name][1]))
                       for name in ("scaffold", "admm-own", "fedbn")}
    said["sum"], said["room"] = _count_sum(), _find_room()
    _play_others()
    said["step"]["fp16"] = _scale_losses()
    said["upsampled"] = _upsample()
    print(json.dumps(said))


def _federation(algorithm: Algorithm, sizes: list[int], others: dict) -> Federation:
    return scenery.federation(algorithm, sizes, world=WORLD, local=scenery.training(), **others)


def _trainings() -> list[tuple[str, LocalTraining, type[CarScenes]]]:
    jittered = augmentation("perturb", Frame((16, 16), (0.5, 2.0), 0.3))
    plain = scenery.training()
    return [*((name, scenery.training(augment=name), CarScenes) for name in ("none", "flip", "standard", "perturb")),
            ("jittered", replace(plain, augmentation=jittered), Mislabelled),
            *((name, replace(plain, criterion=Criterion(WEIGHTS.to(DEVICE), losses=((1.0, loss()),))), CarScenes)
              for name, loss in LOSSES.items()),
            ("adamw", replace(plain, optimizer=Adam(0.1, decoupled=True), clip_gradient=0.1), CarScenes),
            ("own", replace(plain, criterion=Criterion(WEIGHTS.to(DEVICE), 0.1, ((1.0, OWN),))), CarScenes),
            ("accumulate", replace(plain, accumulate=2), CarScenes),
            ("nesterov", replace(plain, optimizer=SGD(0.9, nesterov=True)), CarScenes),
            ("momentum", scenery.training(momentum=0.9), CarScenes)]


def _waits_of_step(training: LocalTraining, kind: type[CarScenes]) -> float:
    model = scenery.segnet()

    def waits(scenes: int) -> int:
        own = kind(scenery.scene_set(8), np.arange(scenes), DEVICE)
        return pretended.count(lambda: train_locally(
            model, own, replace(training, classes=scenery.CLASSES), start=model.theta.clone(),
            correction=lambda w: None, lr=0.1, round_number=1, car=0))

    return (waits(8) - waits(4)) / 2


def _count_round(algorithm: Algorithm, sizes: list[int], others: dict) -> int:
    federation = _federation(algorithm, sizes, others)
    state = run_round(federation, initial_state(federation)).state
    return pretended.count(lambda: run_round(federation, state))


def _waits_of_batch(federation: Federation, view: View = PLAIN) -> float:
    state = run_round(federation, initial_state(federation)).state
    one, three = (_count(federation, state, scenes, view) for scenes in (8, 24))
    return (three - one) / 2 / (len(federation.fleet.cars) if federation.has_own_models else 1)


def _count(federation: Federation, state: State, scenes: int, view: View) -> int:
    scene_set = scenery.scene_set(scenes)
    return pretended.count(lambda: score(federation, state, scene_set, scenery.criterion(), view))


def _is_resumed(federation: Federation) -> bool:
    """Return whether a federation that goes on from a checkpoint comes to the same bits as one that was not stopped."""
    with tempfile.TemporaryDirectory() as folder:
        first = run_round(federation, initial_state(federation)).state
        Checkpoints(Path(folder), federation, "run").save(first)
        loaded = Checkpoints(Path(folder), federation, "run").load(initial_state(federation), SILENT)
        ends = [run_round(federation, state).state for state in (first, loaded)]
        for name, theta, norms in models(federation, measure_statistics(federation, ends[0])):
            federation.model.load(theta, norms)
            save_weights(weights_of(federation.model.module), Path(folder, f"{name}.safetensors"), {})
    return ends[0].digest() == ends[1].digest() and pretended.NAME in str(ends[1].shared.theta.device)


def _count_sum() -> dict:
    """Add vectors with numbers of all sizes on both devices. Return whether the sums agree, and the waits of each."""
    draw = torch.Generator().manual_seed(1)
    vectors = [torch.randn(1000, generator=draw) * 10.0**power for power in (0, -1, 2)]
    for vector in vectors:
        vector[::50] *= 1e-9
    there, here = ExactSum(vectors[0].to(DEVICE)), ExactSum(vectors[0])
    waits = [pretended.count(partial(there.add, vector.to(DEVICE), 3)) for vector in vectors]
    agree = all(here.add(vector, 3) for vector in vectors) and torch.equal(
        totals([there], WORLD)[0][0].cpu(), totals([here], WORLD)[0][0])
    return {"agree": agree, "waits": waits}


def _find_room() -> list:
    """Play two rounds with memories wherever there is room for them.

    Return whether the bits are always the same, and where the memories lie.
    """
    digests, places = [], []
    for free, choice in ((2**30, "auto"), (0, "memory"), (0, "auto"), (2**30, "disk")):
        torch.cuda.mem_get_info = lambda device, free=free: (free, 2**40)
        federation = _federation(FedADMM(), [4, 4], {})
        with tempfile.TemporaryDirectory() as folder:
            federation = make_room(federation, choice, Path(folder), SILENT)
            first = run_round(federation, initial_state(federation)).state
            digests.append(run_round(federation, first).state.digest())
            kept = first.memories[0]
            places.append("files" if federation.memories.folder else kept.w.device.type)
    return [len({*digests}) == 1, places]


def _scale_losses() -> int:
    scaling, gradient = LossScale(DEVICE), torch.ones(3, device=DEVICE)

    def step() -> None:
        scaling.raise_(gradient.sum())
        scaling.lower_(gradient)

    return pretended.count(step)


def _upsample() -> list[str]:
    """Return the operations by which logits are upsampled and their gradients come back, in a run on a GPU."""
    compute_alike()
    logits = torch.zeros(1, 2, 4, 4, device=DEVICE, requires_grad=True)
    pretended.PLAYED.clear()
    upsample(logits, torch.Size((8, 8))).sum().backward()
    return sorted(pretended.PLAYED)


def _play_others() -> None:
    """Play two rounds of what else touches a device: robust rules, attacks, bounds, momentum across rounds, files."""
    hostile = {"attack": Attack("gaussian", frozenset({1}), 3), "clip_norm": 0.01}
    carried = [scenery.training(momentum=0.9) for _ in range(3)]
    with tempfile.TemporaryDirectory() as folder:
        for others in ({"aggregator": Median(), **hostile}, {"folder": Path(folder)},
                       *({"local": replace(training, across_rounds=rule)}
                         for training, rule in zip(carried, ("average", "own", "step"), strict=True))):
            federation = scenery.federation(FedADMM(), [4, 4, 4], world=WORLD,
                                            **{"local": scenery.training(), **others})
            state = initial_state(federation)
            for _ in range(2):
                state = run_round(federation, state).state


if __name__ == "__main__":
    with pretended.Playing():
        main()
    sys.stdout.flush()
