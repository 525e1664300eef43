"""The scene cache: built once, never half, never twice, and the same arrays afterwards."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from layouts import Drawn, draw, save, write_folder
from scenery import labels_of

from fedsim.classes import CAMVID_11
from fedsim.data.cache import load
from fedsim.data.datasets.folder import Folder
from fedsim.data.pixels import resize_picture
from fedsim.data.scene_set import Scene
from fedsim.errors import DataError

COUNT, WIDTH, HEIGHT = 5, 12, 8


class Noise:
    """A source of random scenes that counts how often it is read."""

    name = "noise"
    classes = CAMVID_11
    image_size = (6, 4)

    def __init__(self, version: int = 0) -> None:
        self.version = version
        self.reads = 0

    def splits(self):
        return ("train",)

    def identity(self, split):
        return {"version": self.version}

    def count(self, split):
        return COUNT

    def notes(self, split):
        return []

    def picture(self, split, name):
        return next(scene.image for scene in self.scenes(split) if scene.name == name)

    def scenes(self, split):
        self.reads += 1
        random = np.random.default_rng([self.version, len(split)])
        for i in range(COUNT):
            image = random.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
            label = random.integers(0, 11, (HEIGHT, WIDTH), np.uint8)
            yield Scene(f"{split}-{i}", f"drive-{i // 2}", image, label)


class Failing(Noise):
    """Names the cause after half of its scenes."""

    def scenes(self, split):
        for i, scene in enumerate(super().scenes(split)):
            if i == COUNT // 2:
                raise DataError("picture 2 is damaged")
            yield scene


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDSIM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def entries(root: Path) -> list[Path]:
    """What is in the cache, but for the empty lock files."""
    return [path for path in root.iterdir() if path.suffix != ".lock"]


def same(one, two) -> bool:
    return (np.array_equal(one.images, two.images) and np.array_equal(labels_of(one), labels_of(two))
            and np.array_equal(one.histograms, two.histograms) and one.times == two.times
            and (one.names, one.drives, one.fingerprint) == (two.names, two.drives, two.fingerprint))


def test_a_scene_set_holds_what_the_source_gave(root):
    scene_set = load(Noise(), "train", (WIDTH, HEIGHT))
    for i, scene in enumerate(Noise().scenes("train")):
        assert np.array_equal(scene_set.images[i], scene.image.transpose(2, 0, 1))
        assert np.array_equal(scene_set.labels[i], scene.label)
        assert (scene_set.names[i], scene_set.drives[i], scene_set.times[i]) == (scene.name, scene.drive, scene.time)
        assert scene_set.histograms[i].tolist() == [int((scene.label == c).sum()) for c in range(len(CAMVID_11))]
    assert len(scene_set) == COUNT and scene_set.classes == CAMVID_11


def test_shrunk_pictures_hold_the_mean_of_an_area_and_labels_stay(root):
    scene_set = load(Noise(), "train", None)
    assert scene_set.images.shape == (COUNT, 3, 4, 6) and labels_of(scene_set).shape == (COUNT, HEIGHT, WIDTH)
    image = next(Noise().scenes("train")).image.astype(float)
    areas = image.reshape(4, 2, 6, 2, 3).mean((1, 3)).transpose(2, 0, 1)
    assert np.abs(scene_set.images[0] - areas).max() <= 1  # Pillow rounds rows and columns in turn


def test_pictures_can_grow(root):
    assert load(Noise(), "train", (24, 16)).images.shape == (COUNT, 3, 16, 24)


def test_the_second_load_reads_no_scene_and_gives_the_same(root):
    source, said = Noise(), []
    first = load(source, "train", None, said.append)
    second = load(source, "train", None, said.append)
    assert source.reads == 1 and same(first, second)
    assert len(said) == 1 and "train" in said[0] and str(root) in said[0]


def test_a_scene_set_cannot_be_written(root):
    with pytest.raises(ValueError, match="read-only"):
        load(Noise(), "train", None).images[0] = 0


@pytest.mark.parametrize("arguments", [(Noise(1), "train", None), (Noise(), "trial", None),
                                       (Noise(), "train", (3, 2))])
def test_another_source_split_or_size_is_another_entry(root, arguments):
    base, other = load(Noise(), "train", None), load(*arguments)
    assert len(entries(root)) == 2
    assert other.fingerprint != base.fingerprint


def damage_meta(entry: Path, change) -> None:
    meta = json.loads((entry / "meta.json").read_text())
    change(meta)
    (entry / "meta.json").write_text(json.dumps(meta))


def flip_bit(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [
    lambda entry: os.truncate(entry / "labels.npy", 200),
    lambda entry: os.truncate(entry / "images.npy", 0),
    lambda entry: (entry / "images.npy").open("ab").write(b"more"),
    lambda entry: (entry / "images.npy").unlink(),
    lambda entry: os.truncate(entry / "histograms.npy", 100),
    lambda entry: (entry / "meta.json").write_text('{"images": ['),
    lambda entry: (entry / "meta.json").write_text("[]"),
    lambda entry: (entry / "meta.json").write_bytes(b"\xff"),
    lambda entry: damage_meta(entry, lambda meta: meta.pop("names")),
    lambda entry: damage_meta(entry, lambda meta: meta["drives"].reverse()),
    lambda entry: damage_meta(entry, lambda meta: meta["times"].__setitem__(0, 7.0)),
    lambda entry: flip_bit(entry / "images.npy", 200),
    lambda entry: (entry / "images.npy").write_bytes((entry / "images.npy").read_bytes().replace(b"}", b" ", 1)),
    lambda entry: flip_bit(entry / "labels.npy", -1),
    lambda entry: flip_bit(entry / "histograms.npy", -8),
    lambda entry: damage_meta(entry, lambda meta: meta["images"].__setitem__(0, COUNT - 1)),
])
def test_a_damaged_entry_is_built_anew(root, damage):
    source = Noise()
    whole = load(source, "train", None)
    kept = np.array(whole.images)
    (entry,) = entries(root)
    del whole  # its memory map would fault where the file is cut
    damage(entry)
    again = load(source, "train", None)
    assert source.reads == 2 and np.array_equal(again.images, kept)
    load(source, "train", None)
    assert source.reads == 2


def test_a_copy_with_equal_sizes_and_times_is_another_data_set(root, tmp_path):
    """Archives and cp -p make such copies. Catches the labels of one data set served for another."""
    roots = [write_folder(tmp_path / name, {"town/a": Drawn(draw(2).picture, np.full((12, 16), number, np.uint8))})
             for number, name in enumerate(("one", "two"))]
    for path in [path for folder in roots for path in folder.rglob("*.png")]:
        path.write_bytes(path.read_bytes().ljust(1000, b"\0"))
        os.utime(path, (1, 1))
    for number, folder in enumerate(roots):
        assert (load(Folder(folder), "train", None).labels[0] == number).all()
    label = roots[0] / "labels/train/town/a.png"
    kept = label.stat()
    label.write_bytes((roots[1] / "labels/train/town/a.png").read_bytes())
    os.utime(label, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    assert (load(Folder(roots[0]), "train", None).labels[0] == 1).all(), "changed, with its old size and time"


def test_times_of_scenes_belong_to_the_entry(root, tmp_path):
    class Timed(Folder):
        rate = 10

        def frames(self, split):
            return (frame._replace(time=1 / self.rate) for frame in super().frames(split))

    folder = write_folder(tmp_path, {"town/a": draw(2)})
    assert load(Timed(folder), "train", None).times == (0.1,)
    Timed.rate = 2
    assert load(Timed(folder), "train", None).times == (0.5,)


def test_a_data_set_that_changes_while_it_is_read_is_refused(root, tmp_path):
    class Changing(Folder):
        def scenes(self, split):
            yield from super().scenes(split)
            save(draw(3, 1).picture, tmp_path / "images/train/town/a.png")

    with pytest.raises(DataError, match="split train of folder has changed while it was read"):
        load(Changing(write_folder(tmp_path, {"town/a": draw(2)})), "train", None)
    assert entries(root) == []


def test_labels_keep_their_own_sizes_and_the_fingerprint_of_one_size_stays(root, tmp_path):
    """Runs keep the fingerprint, so it must not follow the format of the cache."""
    small = draw(2, 1)
    drawn = {"a/1": draw(2), "a/2": Drawn(small.picture[:6], small.label[:6]), "a/3": draw(2, 2)}
    scenes = load(Folder(write_folder(tmp_path / "mixed", drawn)), "train", (8, 6))
    assert scenes.images.shape == (3, 3, 6, 8)
    for index, one in enumerate(drawn.values()):
        assert np.array_equal(scenes.labels[index], one.label)
        assert np.array_equal(scenes.images[index], resize_picture(one.picture, (8, 6)).transpose(2, 0, 1))
    fingerprint = load(Noise(), "train", None).fingerprint
    assert fingerprint == "5a4b950102c01a27b85d235c3aa66d1dc4652363819d2bf73a4a1068527aea54"


def test_what_readers_noticed_is_kept(root):
    class Noticing(Noise):
        def scenes(self, split):
            for index, scene in enumerate(super().scenes(split)):
                yield scene._replace(remarks=("odd",) if index % 2 else ())

    for _ in range(2):
        assert load(Noticing(), "train", None).remarks == {"odd": ["train-1", "train-3"]}


def test_an_entry_under_another_s_name_is_made_anew(root):
    load(Noise(), "train", None)
    (one,) = entries(root)
    other = load(Noise(1), "train", None)
    two, = {*entries(root)} - {one}
    shutil.rmtree(two)
    shutil.copytree(one, two)
    assert same(load(Noise(1), "train", None), other)
    shutil.rmtree(two)
    two.write_text("no entry")
    assert same(load(Noise(1), "train", None), other)


def test_a_source_that_fails_leaves_nothing(root):
    with pytest.raises(DataError, match="picture 2 is damaged"):
        load(Failing(), "train", None)
    assert entries(root) == []


BUILDER = """
import sys, time
sys.path[:0] = [{tests!r}, {helpers!r}]
from test_cache import Noise
from fedsim.data.cache import load
class Slow(Noise):
    def scenes(self, split):
        for i, scene in enumerate(super().scenes(split)):
            if i == 3: print("half-way", flush=True); time.sleep({pause})
            yield scene
slow = Slow()
print(load(slow, "train", None).fingerprint, slow.reads)
"""


def start_builder(pause: float) -> subprocess.Popen:
    program = BUILDER.format(tests=str(Path(__file__).parent), helpers=str(Path(__file__).parents[1]), pause=pause)
    return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)


def test_a_builder_killed_half_way_leaves_nothing_that_counts(root):
    """Catches writing in place, and a lock that outlives its holder."""
    with start_builder(pause=60) as builder:
        assert builder.stdout.readline() == "half-way\n"
        builder.kill()
    source = Noise()
    assert len(load(source, "train", None)) == COUNT and source.reads == 1
    assert [path.suffix for path in entries(root)] == [""]


def test_two_builders_at_once_do_no_harm(root):
    """The second waits and reads nothing."""
    with start_builder(pause=0.5) as builder:
        assert builder.stdout.readline() == "half-way\n"
        source, start = Noise(), time.monotonic()
        scene_set = load(source, "train", None)
        assert time.monotonic() - start > 0.2 and source.reads == 0
        assert builder.stdout.read().split() == [scene_set.fingerprint, "1"]


def test_a_cache_that_cannot_be_written_is_named_with_the_remedy(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("FEDSIM_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(DataError, match=f"{tmp_path}/file/cache .*set FEDSIM_CACHE"):
        load(Noise(), "train", None)


def test_a_read_only_cache_with_the_scenes_in_it_is_enough(root, monkeypatch):
    """Catches taking the lock, which needs to write, before looking."""
    load(Noise(), "train", None)
    monkeypatch.setattr("fedsim.data.cache.lock", None)
    assert len(load(Noise(), "train", None)) == COUNT


def test_the_cache_lies_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.delenv("FEDSIM_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    load(Noise(), "train", None)
    assert entries(tmp_path / "xdg" / "fedsim")
    monkeypatch.delenv("XDG_CACHE_HOME")
    load(Noise(), "train", None)
    assert entries(tmp_path / "home" / ".cache" / "fedsim")
