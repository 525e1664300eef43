"""Splits as others publish them: who has which picture, and one sentence for everything that cannot be read.

Each test names a mutation that it was seen to catch.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from layouts import draw, write_cityscapes
from scenery import scene_set as noise
from undrawn import draw_nothing

from fedsim.data.partition.split_file import read_split
from fedsim.errors import DataError
from fedsim.main import main

FRAMES = [f"{city}_{sequence:06d}_000019" for city in ("erfurt", "krefeld") for sequence in range(6)]


def scenes(*names: str):
    return replace(noise(len(names), (4, 3), (4, 3)), names=names)


def leaf(clients: dict[str, list[str]]) -> str:
    """As FedDrive writes it, with the paths of labels beside those of pictures."""
    return json.dumps({"users": [*clients], "num_samples": [len(own) for own in clients.values()], "user_data": {
        name: {"x": own, "y": [path.replace("_leftImg8bit", "_gtFine_labelIds") for path in own]}
        for name, own in clients.items()}})


def path_of(frame: str) -> str:
    return f"train/{frame.split('_')[0]}/{frame}_leftImg8bit.png"


def dealt(path: Path, *names: str) -> dict[str, list[str]]:
    return {shard.name: [names[index] for index in shard.indices] for shard in read_split(path, scenes(*names))}


def test_a_folder_of_leaf_files_has_the_clients_of_all_in_the_order_of_numbers(tmp_path):
    """Catches all_data_10 before all_data_2, and pictures of labels."""
    clients = {"erfurt6": FRAMES[:2], "erfurt7": FRAMES[2:4], "krefeld0": FRAMES[9:]}
    for number, (client, own) in zip((0, 2, 10), clients.items(), strict=True):
        (tmp_path / f"all_data_{number}.json").write_text(leaf({client: [path_of(frame) for frame in own][::-1]}))
    found = dealt(tmp_path, *FRAMES)
    assert found == clients and list(found) == list(clients)


@pytest.mark.parametrize("text", ["picture,car\nimages/a/0.png,one\nimages/a/1.png,two\nb\\0.jpg,one\n",
                                  "\ufeffa/0 , one\n\nx/a/1.PNG,two\n\"/y/b/0.png\",one"])
def test_a_table_gives_each_car_its_pictures_by_the_ends_of_their_paths(tmp_path, text):
    """Catches a heading that is a car, and the first of two scenes with the same last part."""
    path = tmp_path / "split.csv"
    path.write_text(text, encoding="utf-8")
    assert dealt(path, "a/0", "a/1", "b/0", "b/2") == {"one": ["a/0", "b/0"], "two": ["a/1"]}


@pytest.mark.parametrize(("name", "text", "words"), [
    ("a.csv", "a/0,one\na/1\n", "a.csv, line 2, must be a picture and its car"),
    ("a.csv", "picture,car\n", "a.csv has no line with a picture and its car"),
    ("a.csv", "c/0.png,one\n", "a.csv has 1 picture(s) that could be several training scenes or whose folders are "
                               "those of no scene, first 'c/0.png'"),
    ("a.csv", "".join(f"x/{number}.png,one\n" for number in range(10, 17)),
     "a.csv has 7 picture(s) that are not training scenes, first 'x/10.png', 'x/11.png', 'x/12.png', 'x/13.png', "
     "'x/14.png'; it belongs"),
    ("a.csv", "a/0,one\nq/a/0.png,two\n", "a.csv has scene 'a/0' twice, in car 'one' and in car 'two'"),
    ("a.csv", 'a/0,"o/ne"\n', "a.csv has a car named 'o/ne'"),
    ("a.csv", 'a/0,"one\n', "a.csv is not CSV"),
    ("a.json", '{"users": ["u"], "user_data": {"u": {"y": []}}}', "a.json gives its user 'u' no list \"x\""),
    ("a.json", '{"users": ["v"], "user_data": {"u": {"x": ["a/0"]}}}', "a.json gives its user 'v' no list \"x\""),
    ("a.json", '{"users": [], "user_data": {}}', "a.json has no \"user_data\" with users"),
    ("a.json", '{"users": ["u", "u"], "user_data": {"u": {"x": ["a/0"]}}}', "a.json has user 'u' twice"),
    ("a.json", '{"user_data": {"u": {"x": []}}}', "a.json, car 'u', has no scenes"),
    ("a.json", '{"user_data": 3}', "a.json has no \"user_data\" with users")])
def test_a_mistake_gets_a_sentence(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError) as error:
        dealt(tmp_path / name, "a/0", "a/1", "b/0")
    assert words in str(error.value) and "\n" not in str(error.value)


def test_a_run_on_a_published_split_keeps_it_and_goes_on_with_it(tmp_path, monkeypatch, capsys):
    """Also with the command of its start, and with a drive held out. Catches a split that differs from its own copy."""
    draw_nothing(monkeypatch.setattr)
    root = tmp_path / "cityscapes"
    for split, names in (("train", FRAMES), ("val", ["ulm_000000_000019"])):
        write_cityscapes(root, {name: draw(34, seed) for seed, name in enumerate(names)}, split)
    folder = tmp_path / "heterogeneous"
    folder.mkdir()
    clients = {"erfurt0": FRAMES[:3], "erfurt1": FRAMES[3:6], "krefeld0": FRAMES[6:]}
    (folder / "all_data_0.json").write_text(leaf({name: [*map(path_of, own)] for name, own in clients.items()}))
    base = ["--data", "cityscapes", "--data-root", str(root), "--partition", str(folder), "--algo", "avg", "--width",
            "2", "--image-size", "32x16", "--threads", "1", "--lr-schedule", "constant"]
    again = [*base, "--resume", "auto", "--out", str(tmp_path / "run"), "--rounds"]
    assert main([*again, "1"]) == 0 and main([*again, "2"]) == 0
    kept = json.loads((tmp_path / "run" / "partition.json").read_text())["cars"]
    assert {car["name"]: car["scenes"] for car in kept} == clients
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 3
    capsys.readouterr()
    assert main([*base, "--hold-out-drive", "krefeld", "--rounds", "1"]) == 2
    assert "has 6 scene(s) of drive krefeld" in capsys.readouterr().err
