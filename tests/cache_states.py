"""States of data sets and of the cache in which scenes of other files, or damaged ones, could be served."""

import contextlib
import multiprocessing
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import png
from damage import Outcome, damaged

from fedsim.data.cache import load
from fedsim.data.datasets import open_source
from fedsim.errors import FedsimError

COLOURS = {"Road": (128, 64, 128), "Car": (64, 0, 128), "Sky": (128, 128, 128)}
SPLIT, DRIVE = "train", "town"


class CacheStates:
    """Data sets of one shape, whose files have one size and one time whatever is in them."""

    def __init__(self, folder: Path) -> None:
        """folder: of the data sets. The cache of scenes is emptied for each trial."""
        self.folder, self.cache = folder, Path(os.environ["FEDSIM_CACHE"])
        self.roots = [folder / name for name in ("one", "two", "three")]
        self.size, self.order, self.paletted = (0, 0), list(COLOURS), False

    def serve_again(self, chance: random.Random, state: str = "") -> Outcome:
        """Read a data set, bring it or the cache into another state (one or two by chance), and read it again."""
        for path in [self.cache, *self.roots]:
            path.unlink() if path.is_symlink() else shutil.rmtree(path, ignore_errors=True)
        self.size, self.paletted = (chance.randint(2, 20), chance.randint(2, 20)), chance.random() < 0.3
        self.order = chance.sample(list(COLOURS), 3)
        for root in self.roots[:2]:
            self._write(root, chance, 3)
        self.serve(self.roots[0])
        status = 0
        names = [state] if state else [one.__name__ for one in chance.choices(STATES, k=chance.choice([1, 1, 2]))]
        try:
            for name in names:
                getattr(self, name)(chance)
                for root in chance.sample(self.roots, 3):
                    status |= self.serve(root) if (root / "classes.csv").exists() else 0
        except Exception as error:
            raise AssertionError(f"{', '.join(names)}: {type(error).__name__}: {error}") from error
        return Outcome(status, "")

    def serve(self, root: Path) -> int:
        """Assert that fedsim serves what is in the files now, or refuses in a sentence. Returns its status."""
        try:
            scenes = load(open_source("folder", root, 2), SPLIT, self.size)
        except FedsimError as error:
            raise AssertionError(f"a whole data set is refused: {error}") from error
        files = sorted((root / "labels" / SPLIT / DRIVE).glob("*.png"))
        table = [line.split(",")[1] for line in (root / "classes.csv").read_text().splitlines()[1:]]
        meant = np.array([table.index(name) for name in self.order] if self.paletted else range(3))
        assert [f"{DRIVE}/{path.stem}" for path in files] == sorted(scenes.names), scenes.names
        for index, name in enumerate(scenes.names):
            label = meant[_samples(root / "labels" / SPLIT / f"{name}.png")[..., 0]]
            picture = _samples(root / "images" / SPLIT / f"{name}.png")
            assert (scenes.labels[index] == label).all(), f"the label of {name} in {root.name} is another one"
            assert (scenes.images[index] == picture.transpose(2, 0, 1)).all(), f"the picture of {name} is another one"
            counted = np.bincount(label.ravel(), minlength=3)
            assert (scenes.histograms[index] == counted).all(), f"the histogram of {name} is another one"
        return 0

    def _write(self, root: Path, chance: random.Random, count: int) -> None:
        (root / "images" / SPLIT / DRIVE).mkdir(parents=True)
        (root / "labels" / SPLIT / DRIVE).mkdir(parents=True)
        for number in range(count):
            self._scene(root, f"frame-{number}", chance)
        self._write_table(root, self.order)

    def _write_table(self, root: Path, order: list[str]) -> None:
        rows = [f"{number},{name},{','.join(map(str, COLOURS[name]))}" for number, name in enumerate(order)]
        (root / "classes.csv").write_text("\n".join(["label,name,red,green,blue", *rows]))
        os.utime(root / "classes.csv", (10**9, 10**9))

    def _scene(self, root: Path, name: str, chance: random.Random) -> None:
        """Write a scene anew, in files of the same size and time. Those that are there keep their place on the disk."""
        random_numbers = np.random.default_rng(chance.randrange(2**32))
        width, height = self.size
        palette = [COLOURS[name] for name in self.order] if self.paletted else None
        label = png.Writer(width, height, greyscale=not palette, palette=palette, bitdepth=8, compression=0)
        picture = png.Writer(width, height, greyscale=False, compression=0)
        for kind, writer, values in (("labels", label, random_numbers.integers(0, 3, (height, width))),
                                     ("images", picture, random_numbers.integers(0, 256, (height, width * 3)))):
            path = root / kind / SPLIT / DRIVE / f"{name}.png"
            with open(path, "wb") as file:
                writer.write(file, values.tolist())
            os.utime(path, (10**9, 10**9))

    def _entries(self, names: str = "*") -> list[Path]:
        return sorted(path for path in self.cache.rglob(names) if path.is_file() and path.suffix != ".lock")

    def nothing(self, chance: random.Random) -> None:
        """Read it once more."""

    def moved(self, chance: random.Random) -> None:
        """Two roots that change places."""
        self.roots[0].rename(self.folder / "aside")
        self.roots[1].rename(self.roots[0])
        (self.folder / "aside").rename(self.roots[1])

    def copied(self, chance: random.Random) -> None:
        """A third root with the files of one, as `cp -p` makes it; in place of the third that was there."""
        if self.roots[2].exists():
            shutil.rmtree(self.roots[2])
        shutil.copytree(chance.choice(self.roots[:2]), self.roots[2])

    def linked(self, chance: random.Random) -> None:
        """A root whose files are links, soft or hard, to those of the others."""
        hard, one = chance.random() < 0.5, chance.choice(self.roots[:2])
        shutil.rmtree(self.roots[2], ignore_errors=True)
        shutil.copytree(one, self.roots[2], copy_function=os.link if hard else os.symlink)

    def rewritten(self, chance: random.Random) -> None:
        """A scene with other content in the same file, with its size and time."""
        self._scene(chance.choice(self.roots[:2]), f"frame-{chance.randrange(3)}", chance)

    def replaced(self, chance: random.Random) -> None:
        """Files of one root put in the place of the other's, as `mv` and `rsync` do."""
        for kind in chance.choice([["labels"], ["images"], ["labels", "images"]]):
            name = f"{kind}/{SPLIT}/{DRIVE}/frame-{chance.randrange(3)}.png"
            shutil.copy2(self.roots[1] / name, self.folder / "new")
            (self.folder / "new").rename(self.roots[0] / name)

    def exchanged(self, chance: random.Random) -> None:
        """Two labels, or two pictures, of one root that change places."""
        folder = self.roots[0] / chance.choice(["labels", "images"]) / SPLIT / DRIVE
        first, second = (folder / f"frame-{number}.png" for number in chance.sample(range(3), 2))
        first.rename(folder / "aside")
        second.rename(first)
        (folder / "aside").rename(second)

    def added(self, chance: random.Random) -> None:
        self._scene(self.roots[0], f"frame-{chance.randint(3, 9)}", chance)

    def written_damaged(self, chance: random.Random) -> None:
        """Files of the cache with other bytes, shorter, empty or gone."""
        for path in chance.sample(self._entries(), chance.choice([1, 1, 2])) if len(self._entries()) > 1 else []:
            data = path.read_bytes()
            way = chance.choice(["bytes", "bit", "cut", "gone", "longer", "folder"])
            if way == "bytes":
                path.write_bytes(damaged(data, chance))
            elif way == "bit" and data:
                place = chance.randrange(len(data))
                path.write_bytes(data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1:])
            elif way in ("cut", "longer"):
                path.write_bytes(data[:chance.randrange(len(data) + 1)] if way == "cut" else data + b"\0")
            else:
                path.unlink()
                path.mkdir() if way == "folder" else None

    def crossed(self, chance: random.Random) -> None:
        """Entries, or single files of them, that were put in the place of others."""
        for root in self.roots[:2]:
            self.serve(root)
        entries = sorted({path.parent for path in self._entries()})
        if len(entries) < 2:
            return
        first, second = chance.sample(entries, 2)
        if chance.random() < 0.5:
            shutil.rmtree(second)
            shutil.copytree(first, second)
        for path in chance.sample(sorted(first.iterdir()), 1):
            shutil.copy2(path, second / path.name)

    def left(self, chance: random.Random) -> None:
        """What a killed writer leaves: half an entry under another name, a lock, or a folder without files."""
        for entry in {path.parent for path in self._entries()}:
            entry.with_suffix(".part").mkdir(exist_ok=True)
            (entry.with_suffix(".part") / "images.npy").write_bytes(b"half")
            if chance.random() < 0.5:
                shutil.rmtree(entry)
                entry.mkdir() if chance.random() < 0.5 else None

    def killed(self, chance: random.Random) -> None:
        """A process that is killed while it writes the entry."""
        self._scene(self.roots[0], "frame-0", chance)
        child = multiprocessing.get_context("fork").Process(target=self._quietly)
        child.start()
        time.sleep(chance.random() * 0.03)
        os.kill(child.pid or 0, signal.SIGKILL)
        child.join()

    def _quietly(self) -> None:
        with contextlib.suppress(BaseException):
            load(open_source("folder", self.roots[0], 2), SPLIT, self.size)
        os._exit(0)

    def together(self, chance: random.Random) -> None:
        """Two processes that read at once."""
        self._scene(self.roots[0], "frame-1", chance)
        children = [multiprocessing.get_context("fork").Process(target=self._quietly) for _ in range(2)]
        for child in children:
            child.start()
        self.serve(self.roots[0])
        for child in children:
            child.join()

    def while_read(self, chance: random.Random) -> None:
        """Files that change while they are read: what is served is one state of them, or nothing is."""
        self._scene(self.roots[0], "frame-2", chance)
        writer = threading.Thread(target=self._change_at, args=(chance, [chance.random() * 0.01 for _ in range(3)]))
        writer.start()
        with contextlib.suppress(FedsimError):
            load(open_source("folder", self.roots[0], 2), SPLIT, self.size)
        writer.join()

    def _change_at(self, chance: random.Random, pauses: list[float]) -> None:
        for pause in pauses:
            time.sleep(pause)
            self._scene(self.roots[0], f"frame-{chance.randrange(3)}", chance)

    def renumbered(self, chance: random.Random) -> None:
        """A table of the same lines with other numbers; its size and time stay. Palettes say what is meant."""
        self._write_table(self.roots[0], chance.sample(self.order, 3))


STATES: list[Callable[[CacheStates, random.Random], None]] = [
    CacheStates.nothing, CacheStates.moved, CacheStates.copied, CacheStates.linked, CacheStates.rewritten,
    CacheStates.replaced, CacheStates.exchanged, CacheStates.added, CacheStates.written_damaged,
    CacheStates.written_damaged, CacheStates.crossed, CacheStates.left, CacheStates.killed, CacheStates.together,
    CacheStates.while_read, CacheStates.renumbered]


def _samples(path: Path) -> np.ndarray:
    """Read a PNG of 8 bits: (h, w, planes) uint8."""
    _, height, rows, info = png.Reader(bytes=path.read_bytes()).read()
    return np.vstack([np.asarray(row, np.uint8) for row in rows]).reshape(height, -1, info["planes"])

