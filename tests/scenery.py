"""Scenes without a disk, cars that have them, and ranks that are threads."""

import threading
from collections.abc import Callable
from typing import Any

import federations
import numpy as np
import torch
from torch import Tensor

from fedsim.algorithms import Algorithm
from fedsim.classes import CAMVID_11, VOID
from fedsim.data.augment import augmentation
from fedsim.data.car_scenes import CarScenes
from fedsim.data.scene_set import LabelMaps, SceneSet, class_histogram
from fedsim.distributed.devices import Place
from fedsim.distributed.world import World
from fedsim.federation.batchnorm import NORM_RULES
from fedsim.federation.federation import Car, Federation
from fedsim.federation.local_training import LocalTraining
from fedsim.federation.local_work import Epochs, LocalWork
from fedsim.federation.optimizers import SGD
from fedsim.federation.participation import place_cars
from fedsim.losses.criterion import Criterion
from fedsim.models import build_model
from fedsim.models.flat import FlatModel

CPU = torch.device("cpu")
CLASSES = len(CAMVID_11)
ONE_AT_A_TIME = threading.Lock()  # ranks that are threads share torch's generator
SOLO = World(Place(), CPU, "gloo", "alone", 1)


def scene_set(count: int, size: tuple[int, int] = (32, 24), label_size: tuple[int, int] = (48, 36),
              seed: int = 0) -> SceneSet:
    """Noise; sizes are (width, height) in pixels; a twelfth of the labels is void."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, CLASSES + 1, (count, label_size[1], label_size[0]), np.uint8)
    labels[labels == CLASSES] = VOID
    histograms = np.stack([class_histogram(label, CLASSES) for label in labels])
    return SceneSet(random.integers(0, 256, (count, 3, size[1], size[0]), np.uint8), LabelMaps.of(labels), histograms,
                    tuple(f"s{i}" for i in range(count)), ("d",) * count, (None,) * count, CAMVID_11, "made up")


def labels_of(scenes: SceneSet) -> np.ndarray:
    """Return all labels of a set, (N, h, w), if they have one shape."""
    return scenes.labels.stack(range(len(scenes)))


def grey_scenes(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Grey images at half the labels' size, labels half Road half void, predictions Road all over."""
    images = np.full((count, 30, 40, 3), 77, np.uint8)
    labels = np.full((count, 60, 80), 3, np.uint8)
    labels[:, 30:] = VOID
    return images, labels, np.full((count, 15, 20), 3, np.uint8)


def segnet(own_norms: bool = False) -> FlatModel:
    with ONE_AT_A_TIME:
        torch.manual_seed(0)
        return FlatModel(build_model("segnet-small", CLASSES, 4), CPU, own_norms)


def criterion() -> Criterion:
    return Criterion(torch.linspace(0.5, 2, CLASSES))


def training(epochs: int = 1, batch_size: int = 2, momentum: float = 0.0,
             augment: str = "flip", work: LocalWork | None = None) -> LocalTraining:
    return LocalTraining(work or Epochs(epochs, epochs), batch_size, SGD(momentum), criterion(), augmentation(augment),
                         seed=5)


def federation(algorithm: Algorithm, sizes: list[int], *, world: World = SOLO, batchnorm: str = "recalibrate",
               local: LocalTraining | None = None, weighting: str = "images", **others: Any) -> Federation:
    """Cars with so many scenes each, of one set, on the ranks of a world."""
    scenes, ends = scene_set(sum(sizes)), np.cumsum([0, *sizes])
    homes = place_cars(sizes, world.size)
    own = {car: CarScenes(scenes, np.arange(ends[car], ends[car + 1]), CPU)
           for car, rank in enumerate(homes) if rank == world.rank}
    return federations.build(
        world=world, model=segnet(NORM_RULES[batchnorm].own_affine), training=local or training(), algorithm=algorithm,
        cars=tuple(Car(f"car-{i}", size) for i, size in enumerate(sizes)), homes=tuple(homes), scenes=own, rounds=4,
        lr=0.1, participation=1.0,
        weights=tuple(sizes) if weighting == "images" else (1,) * len(sizes),
        seed=5, norms=NORM_RULES[batchnorm], **others)


class Thread(World):
    """A rank that is a thread, with the collectives of a real one."""

    def __init__(self, rank: int, size: int, slots: list[Any], barrier: threading.Barrier) -> None:
        super().__init__(Place(rank, size, rank, size), CPU, "gloo", "threads", 1)
        self._slots, self._barrier = slots, barrier

    def _exchange(self, tensor: Tensor) -> list[Tensor]:
        self._slots[self.rank] = tensor.clone()
        self._barrier.wait()
        everyone = list(self._slots)
        self._barrier.wait()
        return everyone

    def sum_(self, tensor: Tensor) -> None:
        tensor.copy_(sum(self._exchange(tensor)))

    def broadcast_(self, tensor: Tensor, source: int = 0) -> None:
        tensor.copy_(self._exchange(tensor)[source])

    def gather(self, tensor: Tensor) -> list[Tensor] | None:
        everyone = self._exchange(tensor)
        return everyone if self.is_coordinator else None


def on_ranks(size: int, action: Callable[[World], Any]) -> list[Any]:
    """What the action returns on every rank, or the exception it raises there."""
    slots: list[Any] = [None] * size
    results: list[Any] = [None] * size
    barrier = threading.Barrier(size, timeout=60)

    def play(rank: int) -> None:
        try:
            results[rank] = action(Thread(rank, size, slots, barrier))
        except Exception as error:
            results[rank] = error

    threads = [threading.Thread(target=play, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
