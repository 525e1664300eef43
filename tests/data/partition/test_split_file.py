"""The split file: what is written is read again, and one sentence for everything that cannot be read."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenery import scene_set

from fedsim.data.partition import split_file
from fedsim.data.partition.schemes import Shard
from fedsim.data.partition.split_file import read_cars, read_split, write_split
from fedsim.data.perturbations import PERTURBATIONS, SEVERITIES
from fedsim.errors import DataError, OutputError

SCENES = scene_set(6, (4, 3), (4, 3))  # s0 to s5
CARS = [{"name": "a", "condition": None, "scenes": ["s3", "s0"]}, {"name": "b", "condition": "fog:3", "scenes": ["s5"]}]


def known(shards) -> list:
    return [(shard.name, shard.condition, *(part.tolist() for part in (shard.indices, shard.own_test, shard.left_out)))
            for shard in shards]


def write(path: Path, cars: object) -> Path:
    path.write_text(json.dumps({"format": 1, "cars": cars}), encoding="utf-8")
    return path


def sentence(path: Path) -> str:
    """What the user is told: one sentence that names the file."""
    with pytest.raises(DataError) as error:
        read_split(path, SCENES)
    message = str(error.value)
    assert message.startswith(str(path)) or f" {path}" in message
    assert "\n" not in message and ". " not in message and message.isprintable(), message
    return message


NAMES = st.text(st.characters(categories=["L", "M", "N", "P", "S"], exclude_characters="/\\") | st.just(" "),
                min_size=1, max_size=40).filter(lambda name: name.strip(" ."))
SCENE_NAMES = st.text(min_size=0, max_size=20) | st.just("Stra\udcdfe/0001")  # a file's name that is not Unicode
CONDITIONS = st.none() | st.builds("{}:{}".format, st.sampled_from(list(PERTURBATIONS)), st.integers(1, SEVERITIES))


@settings(max_examples=40)
@given(cars=st.lists(NAMES, min_size=1, max_size=6, unique=True),
       scenes=st.lists(SCENE_NAMES, min_size=6, max_size=20, unique=True), data=st.data())
def test_what_is_written_is_read_again(tmp_path_factory, cars, scenes, data):
    """Names in any language, some scenes in no car."""
    owners = list(range(len(cars))) + [data.draw(st.integers(-1, len(cars) - 1)) for _ in scenes[len(cars):]]
    owner = np.array(data.draw(st.permutations(owners)))
    parts = [np.split(np.flatnonzero(owner == car), sorted(data.draw(st.integers(1, int((owner == car).sum())))
                                                           for _ in range(2))) for car in range(len(cars))]
    shards = [Shard(name, trained, data.draw(CONDITIONS), *others)
              for name, (trained, *others) in zip(cars, parts, strict=True)]
    those = replace(scene_set(len(scenes), (2, 2), (2, 2)), names=tuple(scenes))
    path = tmp_path_factory.mktemp("split") / "split.json"
    write_split(path, shards, those, "made up")
    assert known(read_split(path, those)) == known(shards)


def test_the_file_can_be_read_by_people_and_other_programs(tmp_path):
    path = tmp_path / "split.json"
    write_split(path, [Shard("Straße", np.array([1, 4]), "fog:3")], SCENES, "camvid")
    assert json.loads(path.read_text("utf-8")) == {
        "format": 1, "data": {"set": "camvid", "fingerprint": SCENES.fingerprint},
        "cars": [{"name": "Straße", "condition": "fog:3", "scenes": ["s1", "s4"]}]}
    assert ' "name": "Straße",\n' in path.read_text("utf-8")


def test_names_decide_and_neither_order_nor_fingerprint(tmp_path):
    path = write(tmp_path / "split.json", CARS)
    other = replace(SCENES, names=SCENES.names[::-1], fingerprint="another")
    assert known(read_split(path, SCENES)) == [("a", None, [0, 3], [], []), ("b", "fog:3", [5], [], [])]
    assert known(read_split(path, other)) == [("a", None, [2, 5], [], []), ("b", "fog:3", [0], [], [])]
    assert read_split(path, SCENES)[0].indices.dtype == np.int64


def test_cars_can_be_had_without_the_scenes_and_need_no_condition(tmp_path):
    path = write(tmp_path / "split.json", [{"name": "a", "scenes": ["anywhere"]}])
    assert [car["name"] for car in read_cars(path)] == ["a"]


def test_a_file_that_is_there_is_kept(tmp_path):
    path = tmp_path / "split.json"
    path.write_text("mine")
    with pytest.raises(OutputError, match=r"split\.json is there already"):
        write_split(path, [Shard("a", np.array([0]))], SCENES, "camvid")
    assert path.read_text() == "mine"


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(OutputError, match=r"cannot write .*split\.json \(No such file or directory\)"):
        write_split(tmp_path / "nowhere" / "split.json", [Shard("a", np.array([0]))], SCENES, "camvid")


def test_of_a_file_that_did_not_fit_on_the_disk_nothing_is_left(tmp_path, monkeypatch):
    def open_on_a_full_disk(path, mode):
        with open(path, mode) as file:
            file.write(b"half")
        raise OSError(28, "No space left on device")

    path = tmp_path / "split.json"
    monkeypatch.setattr(split_file, "open", open_on_a_full_disk, raising=False)
    with pytest.raises(OutputError, match="No space left on device"):
        write_split(path, [Shard("a", np.array([0]))], SCENES, "camvid")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("name", ["", "..", "a/b", "a\\b", "a\nb", "\x1b[2J", "a" * 1001, "\ud800"])
def test_a_name_that_a_screen_or_a_file_cannot_bear_is_neither_written_nor_read(tmp_path, name):
    path = write(tmp_path / "split.json", [{"name": name, "scenes": ["s0"]}])
    assert "has a car named" in sentence(path) and len(sentence(path)) < len(str(path)) + 300
    with pytest.raises(DataError, match="has a car named"):
        write_split(tmp_path / "other.json", [Shard(name, np.array([0]))], SCENES, "camvid")
    assert not (tmp_path / "other.json").exists()


@pytest.mark.parametrize("cars, expected", [
    ([CARS[0], {"name": "b", "scenes": ["s9", "s1", "t\n"]}], "has 2 scene(s) that are not training scenes, first 's9' "
                                                              "of car 'b'"),
    ([CARS[0], {"name": "b", "scenes": ["s1", "s3"]}], "has scene 's3' twice, in car 'a' and in car 'b'"),
    ([{"name": "b", "scenes": ["s1", "s1"]}], "has scene 's1' twice, in car 'b' and in car 'b'"),
    ([CARS[0], {"name": "b", "scenes": []}], "car 'b', has no scenes"),
    ([CARS[0], {"name": "a", "scenes": ["s1"]}], "has two cars 'a'"),
    ([{"name": "a", "scenes": ["s1"], "condition": "fgo:3"}], "car 'a', has an impossible condition: there is no "
                                                              "perturbation 'fgo' (did you mean fog?)"),
    ([{"name": "a", "scenes": ["s1"], "condition": "fog:6"}], "perturbation 'fog:6' needs a severity"),
    ([{"name": "a", "scenes": ["s1"], "condition": 3}], "car 'a', has a condition that is not text"),
    ([{"name": "a", "scenes": ["s1"], "conditon": "fog:3"}], "has a key 'conditon'; valid are name, condition, scenes"),
    ([{"name": "a", "scenes": "s1"}], 'car \'a\', needs "scenes", a list of names'),
    ([{"name": "a", "scenes": [["s1"]]}], 'car \'a\', needs "scenes", a list of names'),
    ([{"name": "a", "scenes": ["s1"], "own_test": "s2"}], 'car \'a\', needs "own_test", a list of names'),
    ([{"name": "a", "scenes": ["s1"], "own_test": ["s1"]}], "has scene 's1' twice, in car 'a' and in car 'a'"),
    ([{"name": "a", "scenes": ["s1"], "own_test": ["s9"]}], "has 1 scene(s) that are not training scenes, first 's9'"),
    ([{"name": "a", "scenes": [], "own_test": ["s1"]}], "car 'a', has no scenes"),
    ([{"name": "a"}], 'car \'a\', needs "scenes", a list of names'),
    ([CARS[0], {"name": 7, "scenes": ["s1"]}], "car 2, must be an object with a name"),
    ([CARS[0], "b"], "car 2, must be an object with a name"),
    ([], 'has no list "cars"'),
    ({"a": ["s1"]}, 'has no list "cars"'),
])
def test_a_car_that_cannot_be_is_named(tmp_path, cars, expected):
    assert expected in sentence(write(tmp_path / "split.json", cars))


@pytest.mark.parametrize("content, expected", [
    (b"", "is not JSON (line 1: Expecting value)"),
    (b'{"format": 1,\n "cars": [}', "is not JSON (line 2: Expecting value)"),
    (b"\x89PNG\r\n\x1a\n\x00\xff", "is not JSON"),
    (b"[" * 200_000, "is not JSON"),
    (b"[1]", "is not a split of format 1"),
    (b'{"format": 2, "cars": []}', "is not a split of format 1"),
    (b'{"cars": []}', "is not a split of format 1"),
])
def test_another_file_is_told_from_a_split(tmp_path, content, expected):
    path = tmp_path / "split.json"
    path.write_bytes(content)
    assert expected in sentence(path)


def test_what_is_no_file_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")  # reading it would wait for ever
    os.mkfifo(tmp_path / "pipe.csv")
    for name in ("nowhere.json", "pipe", "pipe.csv", "x" * 300):
        said = sentence(tmp_path / name)
        assert "there is no file" in said or "cannot read" in said
    assert "holds no .json file" in sentence(tmp_path)


def test_a_gigantic_file_is_refused_before_it_fills_the_memory(tmp_path):
    path = tmp_path / "split.json"
    path.touch()
    os.truncate(path, 2**30 + 1)  # a hole, no bytes on disk
    assert "is larger than 1 GiB" in sentence(path)
