"""The split file, which says which car has which scenes.

Runs and inspections write it. People may share and edit it.

    {"format": 1, "data": {"set": "camvid", "fingerprint": "…"},
     "cars": [{"name": "0001TP", "condition": null, "scenes": ["0001TP_006690", …]}, …]}

A condition is null or a perturbation such as "fog:3". Scenes are found by their names. "data" only tells people where
the scenes come from. A car may also have a list "own_test" of scenes of its own that it is scored on and no car trains
on, and a list "left_out" of those that are too close to such scenes for training.

Splits that others publish, as `published` describes them, are read too.
"""

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from fedsim.data.partition.published import find_scenes, is_leaf, list_files, load_json, read_leaf, read_table
from fedsim.data.partition.schemes import Shard
from fedsim.data.perturbations import Perturbation
from fedsim.data.scene_set import SceneSet
from fedsim.errors import DataError, OutputError, SettingsError

FORMAT = 1
LONGEST_NAME = 1000  # characters of a car's name
LISTS = ("scenes", "own_test", "left_out")
KEYS = ("name", "condition", *LISTS)  # of a car


def write_split(path: Path, shards: Sequence[Shard], scene_set: SceneSet, data_name: str) -> None:
    """Write a split file for scenes of the data set `data_name`.

    Raises OutputError if the file cannot be written or is there already, DataError if a car has a name that
    `read_split` refuses.
    """
    for shard in shards:
        _check_name(path, shard.name)
    cars = [{"name": shard.name, "condition": shard.condition,
             **{key: [scene_set.names[index] for index in indices] for key, indices
                in zip(LISTS, (shard.indices, shard.own_test, shard.left_out), strict=True)
                if key == "scenes" or len(indices)}} for shard in shards]
    content = {"format": FORMAT, "data": {"set": data_name, "fingerprint": scene_set.fingerprint}, "cars": cars}
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    try:
        with open(path, "xb") as file:
            file.write(text.encode("utf-8", "surrogatepass"))  # names of files need not be Unicode
    except FileExistsError as error:
        raise OutputError(f"{path} is there already; choose another name, or remove it first") from error
    except OSError as error:
        with suppress(OSError):
            path.unlink()
        raise OutputError(f"cannot write {path} ({error.strerror}); choose another place") from error


def read_split(path: Path, scene_set: SceneSet) -> list[Shard]:
    """Read the cars of a file, with scenes of the set. Scenes of the set may be left out.

    Raises DataError in one sentence if the file has another format, or names an unknown scene or condition, a scene
    twice, a car twice, or a car without scenes.
    """
    cars = read_named_cars(path, scene_set.names)
    index_of = {name: index for index, name in enumerate(scene_set.names)}
    pairs = [(scene, car["name"]) for car in cars for scene in scenes_of(car)]
    unknown = [(scene, car) for scene, car in pairs if scene not in index_of]
    if unknown:
        scene, car = unknown[0]
        raise DataError(f"{path} has {len(unknown)} scene(s) that are not training scenes, first {_quoted(scene)} of "
                        f"car {_quoted(car)}; it belongs to another data set, or to another layout of it")
    owner: dict[str, str] = {}
    for scene, car in pairs:
        if scene in owner:
            raise DataError(f"{path} has scene {_quoted(scene)} twice, in car {_quoted(owner[scene])} and in car "
                            f"{_quoted(car)}; take it out of one")
        owner[scene] = car
    def indices(car: Mapping[str, Any], key: str) -> np.ndarray:
        return np.sort(np.array([index_of[scene] for scene in car.get(key, ())], np.int64))

    return [Shard(car["name"], indices(car, "scenes"), car.get("condition"), indices(car, "own_test"),
                  indices(car, "left_out")) for car in cars]


def read_named_cars(path: Path, names: Sequence[str]) -> list[dict[str, Any]]:
    """Read the cars of a file, with the scenes of a published split by their names. names: of all scenes.

    Raises DataError as `read_cars`, or if a picture of a published split is none of the scenes.
    """
    cars = read_cars(path)
    pictures = [picture for car in cars for picture in car.get("pictures", ())]
    found = iter(find_scenes(path, pictures, names))
    return [{"name": car["name"], "scenes": [next(found) for _ in car["pictures"]]} if "pictures" in car else car
            for car in cars]


def read_cars(path: Path) -> list[dict[str, Any]]:
    """Read the cars of a file without looking for their scenes: each has a name, scenes and perhaps a condition.

    Cars of a published split have paths of pictures instead of scenes. Raises DataError in one sentence if the file has
    another format.
    """
    if os.path.isdir(path):  # Path.is_dir fails for a name that is too long
        return _as_cars(path, [read_leaf(file, load_json(file)) for file in list_files(path)])
    if path.suffix.lower() == ".csv":
        return _as_cars(path, [read_table(path)])
    content = load_json(path)
    if is_leaf(content):
        return _as_cars(path, [read_leaf(path, content)])
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DataError(f"{path} is not a split of format {FORMAT}; it must hold an object with \"format\": {FORMAT}")
    cars = content.get("cars")
    if not isinstance(cars, list) or not cars:
        raise DataError(f"{path} has no list \"cars\"; it must hold at least one car")
    names = set()
    for number, car in enumerate(cars, start=1):
        _check_car(path, number, car)
        if car["name"] in names:
            raise DataError(f"{path} has two cars {_quoted(car['name'])}; give every car a name of its own")
        names.add(car["name"])
    return cars


def scenes_of(car: Mapping[str, Any]) -> list[str]:
    """Return the names of all scenes of a car of a file, those that it trains on first."""
    return [scene for key in ("pictures", *LISTS) for scene in car.get(key, ())]


def _as_cars(path: Path, parts: Sequence[Mapping[str, list[str]]]) -> list[dict[str, Any]]:
    """Return the cars of a published split, from the pictures of each car in one file or in several."""
    cars: dict[str, dict[str, Any]] = {}
    for part in parts:
        for name, pictures in part.items():
            _check_name(path, name)
            if name in cars:
                raise DataError(f"{path} has two cars {_quoted(name)}; give every car a name of its own")
            if not pictures:
                raise DataError(f"{path}, car {_quoted(name)}, has no scenes; give it at least one, or take the car "
                                "out")
            cars[name] = {"name": name, "pictures": pictures}
    return [*cars.values()]


def _check_car(path: Path, number: int, car: Any) -> None:
    if not isinstance(car, dict) or not isinstance(car.get("name"), str):
        raise DataError(f"{path}, car {number}, must be an object with a name")
    _check_name(path, car["name"])
    where, scenes, condition = f"{path}, car {_quoted(car['name'])},", car.get("scenes"), car.get("condition")
    if strange := sorted(set(car) - set(KEYS)):
        raise DataError(f"{where} has a key {_quoted(strange[0])}; valid are {', '.join(KEYS)}")
    for key in LISTS:
        names = car.get(key, None if key == "scenes" else [])
        if not isinstance(names, list) or not all(isinstance(scene, str) for scene in names):
            raise DataError(f"{where} needs \"{key}\", a list of names")
    if not scenes:
        raise DataError(f"{where} has no scenes; give it at least one, or take the car out")
    if not isinstance(condition, str | None):
        raise DataError(f"{where} has a condition that is not text; write null, or one such as \"fog:3\"")
    if condition is not None:
        try:
            Perturbation.parse(condition)
        except SettingsError as error:
            raise DataError(f"{where} has an impossible condition: {error}") from error


def _check_name(path: Path, name: str) -> None:
    """Raise DataError for a car's name that cannot stand on a screen, in a table or in the name of a file."""
    if not name.strip(" .") or len(name) > LONGEST_NAME or not name.isprintable() or set(name) & set("/\\"):
        raise DataError(f"{path} has a car named {_quoted(name)}; a name is 1 to {LONGEST_NAME} printable characters, "
                        "not only dots and spaces, without / and \\")


def _quoted(name: str) -> str:
    return repr(name if len(name) <= 100 else name[:100] + "…")
