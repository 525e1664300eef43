"""The scenes of a run: dealt to its cars by every scheme, or as a file has it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commandline import parse
from layouts import Drawn, draw, save, write_folder
from PIL import Image
from scenery import SOLO, labels_of, on_ranks

from fedsim.data import cache
from fedsim.data.datasets.palettes import BY_COLOUR
from fedsim.data.datasets.streets.drives import FRAMES
from fedsim.data.partition import PARTITIONS
from fedsim.data.partition.dealt import Dealt
from fedsim.data.partition.schemes import Shard
from fedsim.data.partition.split_file import write_split
from fedsim.data.scene_set import LabelMaps
from fedsim.errors import DataError, SettingsError
from fedsim.experiment.dealing import cars_of, deal, source_of
from fedsim.settings import compatible
from fedsim.settings.fields import Settings
from fedsim.system.console import SILENT


@pytest.fixture
def settings(tiny_camvid) -> Settings:
    return Settings(data="camvid", data_root=str(tiny_camvid), image_size="32x24")


def dealt(settings: Settings) -> Dealt:
    compatible.check(settings)
    cars = cars_of(settings, ranks=1)
    return deal(settings, source_of(settings, cars), cars, SOLO, SILENT)


def content(one: Dealt) -> list[tuple[str, str | None, list[str]]]:
    return [(shard.name, shard.condition, [one.train_set.names[i] for i in shard.indices]) for shard in one.shards]


def pictures(one: Dealt) -> dict[str, np.ndarray]:
    return dict(zip(one.train_set.names, one.train_set.images, strict=True))


@pytest.mark.parametrize("scheme", PARTITIONS)
@pytest.mark.parametrize("cars", [3, 7])
def test_a_split_that_is_written_and_given_back_is_the_same_run(settings, tmp_path, scheme, cars):
    """Cars, scenes, conditions and pictures, whatever the seed. Catches a file that loses conditions."""
    first = dealt(replace(settings, partition=scheme, cars=cars))
    path = tmp_path / "partition.json"
    write_split(path, first.shards, first.train_set, "camvid")
    again = dealt(replace(settings, partition=str(path)))
    assert content(again) == content(first) and len(content(first)) == cars
    for name, picture in pictures(first).items():
        assert np.array_equal(picture, pictures(again)[name])


def test_pictures_change_under_conditions_and_not_otherwise(settings):
    """Each car's by its own condition; those that are scored never."""
    plain, under = (dealt(replace(settings, partition=scheme, cars=5)) for scheme in ("drive", "condition"))
    changed = [not np.array_equal(plain.train_set.images[i], under.train_set.images[i]) for i in range(18)]
    assert all(changed) and np.array_equal(plain.eval_set.images, under.eval_set.images)
    assert np.array_equal(labels_of(plain.train_set), labels_of(under.train_set))
    assert len({shard.condition for shard in under.shards}) == 5


def test_alpha_and_seed_decide_who_has_what(settings):
    base = replace(settings, partition="dirichlet", cars=3)
    assert content(dealt(base)) == content(dealt(replace(base, alpha=0.5))) != content(dealt(replace(base, alpha=50)))
    assert content(dealt(base)) != content(dealt(replace(base, seed=1)))


def test_a_split_file_says_how_many_cars_there_are(settings, tmp_path):
    """And --cars may say the same and nothing else."""
    first = dealt(replace(settings, cars=3))
    path = tmp_path / "mine.json"
    write_split(path, first.shards, first.train_set, "camvid")
    given = replace(settings, partition=str(path))
    assert cars_of(given, ranks=1) == cars_of(given, ranks=2) == cars_of(replace(given, cars=3), ranks=1) == 3
    with pytest.raises(SettingsError, match=r"--cars is 4, but .*mine\.json has 3 cars"):
        cars_of(replace(given, cars=4), ranks=1)


@pytest.mark.parametrize(("cars", "edit", "drives", "left_out"), [
    (4, lambda cars: [cars[0] + cars[3], cars[1] + cars[2]], 4, 0),
    (4, lambda cars: cars[3:], 4, 6),
    (4, lambda cars: cars[:2], 2, 0),
    (2, lambda cars: [[scene] for car in cars for scene in car], 2, 0),
    (20, lambda cars: [[scene for car in cars for scene in car]], 16, 0),
], ids=["merged", "the last car alone", "the first cars alone", "a car a scene", "all in one"])
def test_a_split_file_of_streets_may_have_any_number_of_cars(tmp_path, monkeypatch, cars, edit, drives, left_out):
    """The drives are those that its scenes need. Catches as many drives as the file has cars."""
    monkeypatch.setitem(FRAMES, "train", 2)
    base = Settings(image_size="32x24")
    first = content(dealt(replace(base, cars=cars)))
    shards = edit([scenes for _, _, scenes in first])
    path = tmp_path / "edited.json"
    path.write_text(json.dumps({"format": 1, "cars": [{"name": f"car {number}", "scenes": scenes}
                                                      for number, scenes in enumerate(shards)]}))
    one = dealt(replace(base, partition=str(path)))
    assert [sorted(scenes) for _, _, scenes in content(one)] == [sorted(scenes) for scenes in shards]
    assert len(one.train_set) == 2 * drives
    assert len(one.train_set) - sum(map(len, shards)) == left_out


def test_a_split_file_of_another_data_set_is_refused_on_streets(settings, tmp_path):
    first = dealt(replace(settings, cars=3))
    path = tmp_path / "mine.json"
    write_split(path, first.shards, first.train_set, "camvid")
    with pytest.raises(DataError, match=r"18 scene.* not training scenes"):
        dealt(Settings(image_size="32x24", partition=str(path)))


def test_without_a_word_there_are_four_cars_or_one_a_rank(settings):
    """Up to four ranks play the same federation. Catches two cars on two ranks."""
    assert [cars_of(settings, ranks) for ranks in (1, 2, 3, 4, 8)] == [4, 4, 4, 4, 8]


def test_scenes_in_no_cars_hands_are_told(settings, tmp_path):
    first = dealt(replace(settings, cars=3))
    path = tmp_path / "part.json"
    write_split(path, first.shards[:2], first.train_set, "camvid")
    missing = len(first.shards[2].indices)
    assert any(f"{missing} of 18 training scenes belong to no car" in warning
               for warning in dealt(replace(settings, partition=str(path))).warnings())
    assert not any("belong to no car" in warning for warning in first.warnings())


def test_files_sizes_and_readers_are_warned_of(tmp_path):
    """A validation split of another shape, files that no scene uses, and labels that were read in an unusual way."""
    small = draw(2, 1)
    root = write_folder(tmp_path, {f"a/{i}": draw(2, i) for i in range(4)})
    write_folder(root, {"b/0": Drawn(small.picture[:6], small.label[:6])}, "val")
    settings = Settings(data="folder", data_root=str(root), image_size="16x12", cars=2)
    save(draw(2).label, root / "labels/val/more.png")
    unused, sizes = dealt(settings).warnings()
    assert unused == f"1 file(s) under {root}/labels/val are not used (1 .png): {root}/labels/val/more.png"
    assert sizes == ("pictures have 2 sizes (train: 4 of 16x12; val: 1 of 16x6): the network sees each at 16x12, which "
                     "stretches some of them, and each is scored at its own size")
    (root / "labels/val/more.png").unlink()
    for path in (root / "labels/train/a").iterdir():
        image = Image.fromarray(1 - np.asarray(Image.open(path)))
        image.putpalette([64, 0, 128, 128, 64, 128])
        image.save(path)
    said, _ = dealt(settings).warnings()
    assert said == f"{BY_COLOUR}: 4 of 4 train scenes, first a/0"
    drawn = [dealt(settings).train_set.labels[i] for i in range(4)]
    assert all(np.array_equal(one, draw(2, i).label) for i, one in enumerate(drawn))


def test_a_missing_split_is_found_before_anything_is_read(tmp_path, monkeypatch):
    root = write_folder(tmp_path, {"a/0": draw(2)})
    monkeypatch.setattr("fedsim.data.cache.load", None)
    with pytest.raises(DataError, match="there is no split val"):
        dealt(Settings(data="folder", data_root=str(root), cars=1))


def test_one_rank_of_a_machine_reads_before_the_others_map(tmp_path, monkeypatch):
    """Catches a cache filled by all ranks at once, and one verified by each of them."""
    monkeypatch.setenv("FEDSIM_CACHE", str(tmp_path / "cache"))
    root = write_folder(tmp_path / "data", {"a/0": draw(2)})
    write_folder(root, {"b/0": draw(2)}, "val")
    settings, looked = Settings(data="folder", data_root=str(root), cars=1), []
    load = cache.load

    def look(source, split, *others, verify=True):
        looked.append((split, verify))
        return load(source, split, *others, verify=verify)

    monkeypatch.setattr(cache, "load", look)
    on_ranks(3, lambda world: deal(settings, source_of(settings, 1), 1, world, SILENT))
    assert looked == [(split, verify) for split in ("train", "val") for verify in (True, False, False)]


def test_ranks_that_have_different_scenes_are_refused(tmp_path):
    """A split that changes while ranks start, or machines with different copies."""
    roots = [write_folder(tmp_path / str(rank), {"a/0": draw(2, rank)}) for rank in range(2)]
    for root in roots:
        write_folder(root, {"b/0": draw(2)}, "val")

    def start(world):
        settings = Settings(data="folder", data_root=str(roots[world.rank]), cars=1)
        return deal(settings, source_of(settings, 1), 1, world, SILENT)

    assert all("the ranks have different scenes of folder's split train" in str(error) for error in on_ranks(2, start))


def with_times(one: Dealt, train: list[float | None], val: list[float | None]) -> list[str]:
    """Warnings where the first training and validation scenes are of one drive, at these times."""
    scenes = {name: replace(scenes, images=scenes.images[:len(times)],
                            labels=LabelMaps.of(labels_of(scenes)[:len(times)]), names=scenes.names[:len(times)],
                            drives=("d",) * len(times), times=tuple(times))
              for name, scenes, times in (("train_set", one.train_set, train), ("eval_set", one.eval_set, val))}
    return [*replace(one, **scenes, shards=[Shard("car", np.arange(len(train)))]).warnings()]


def test_scored_scenes_near_in_time_to_training_scenes_are_counted(settings):
    one = dealt(settings)
    said, = with_times(one, [0.0, 60.0], [4.9, 5.1, 64.0])
    assert "camvid's val split shares drives with train (d): 2 of its 3 scenes lie within 5 seconds" in said
    said, = with_times(one, [0.0, None], [30.0, None])
    assert "neighbouring frames may stand on both sides" in said
    assert not [*one.warnings()], "drives of their own need no warning"


@pytest.mark.parametrize(("text", "says"), [
    ("drives", "choose from drive, iid, .* or name a file"), ("nowhere.json", "or name a file")])
def test_a_partition_that_is_neither_a_scheme_nor_a_file_is_refused(settings, text, says):
    with pytest.raises(SettingsError, match=f"--partition is '{text}'; .*{says}"):
        compatible.check(replace(settings, partition=text))


def test_a_file_or_a_folder_that_is_no_split_is_refused_by_name(settings, tmp_path):
    path, folder = tmp_path / "mine.json", tmp_path / "empty"
    path.write_text("[]")
    folder.mkdir()
    for place in (path, folder):
        with pytest.raises(DataError, match=str(place)):
            dealt(replace(settings, partition=str(place)))


def test_a_run_keeps_its_split_and_repeats_it_from_its_own_copy(tiny_camvid, tmp_path):
    """A file of the user's that is gone later. Catches a config.toml that points to it."""
    from fedsim.main import main

    shards = [{"name": "mine", "condition": "fog:2", "scenes": ["d0_00000", "d0_00002"]},
              {"name": "yours", "condition": None, "scenes": ["d1_00001", "d1_00000"]}]
    (tmp_path / "mine.json").write_text(json.dumps({"format": 1, "data": {}, "cars": shards}))
    fast = ["--data", "camvid", "--data-root", str(tiny_camvid), "--rounds", "1", "--width", "4", "--algo", "avg",
            "--image-size", "32x24"]
    assert main([*fast, "--partition", str(tmp_path / "mine.json"), "--out", str(tmp_path / "one")]) == 0
    (tmp_path / "mine.json").unlink()
    config = tmp_path / "one" / "config.toml"
    assert parse(["--config", str(config)]).partition == str(tmp_path / "one" / "partition.json")
    assert main(["--config", str(config), "--out", str(tmp_path / "two")]) == 0
    digests = [theta(tmp_path / run) for run in ("one", "two")]
    assert digests[0] == digests[1]
    kept = json.loads((tmp_path / "two" / "partition.json").read_text())["cars"]
    assert [(car["name"], car["condition"], sorted(car["scenes"])) for car in kept] == [
        (car["name"], car["condition"], sorted(car["scenes"])) for car in shards]


def test_a_run_records_the_default_folder_and_goes_on_from_anywhere(tiny_camvid, tmp_path, monkeypatch):
    """Catches a config.toml with the folder as it was looked for, or without one."""
    from fedsim.main import main

    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "camvid").symlink_to(tiny_camvid)
    monkeypatch.chdir(tmp_path)
    assert main(["--data", "camvid", "--rounds", "1", "--width", "4", "--algo", "avg", "--image-size", "32x24",
                 "--lr-schedule", "constant", "--out", "run"]) == 0
    assert parse(["--config", "run/config.toml"]).data_root == str(tiny_camvid)
    monkeypatch.chdir("/")
    assert main(["--resume", str(tmp_path / "run"), "--rounds", "2"]) == 0


def theta(run: Path) -> str:
    return json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["theta_sha256"]
