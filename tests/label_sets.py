"""Small folder data sets whose labels are written in all the ways that tools have, and some that are wrong."""

import io
import random
import shutil
import unicodedata
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import png
from label_oracle import voc
from PIL import Image

Colour = tuple[int, int, int]
TABLES: list[list[tuple[int, str, Colour]]] = [
    [(0, "Road", (128, 64, 128)), (1, "Car", (64, 0, 128)), (2, "Sky", (128, 128, 128)), (255, "void", (0, 0, 0))],
    [(0, "void", (0, 0, 0)), (1, "Road", (128, 64, 128)), (2, "Car", (64, 0, 128)), (3, "Tree", (128, 128, 0))],
    [(0, "Boden", (0, 0, 0)), (255, "Straße", (255, 255, 255))],
    [(0, "a", (1, 1, 1)), (7, "b", (2, 2, 2)), (85, "c", (3, 3, 3)), (170, "d", (4, 4, 4)), (255, "e", (9, 9, 9))],
    [(3, "Road", (9, 200, 9)), (4, "Rail", (9, 9, 200)), (11, "Sky", (200, 9, 9)), (15, "Void", (7, 7, 7))],
    [(0, "Road", (128, 64, 128)), (1, "Lane", (128, 64, 128)), (2, "Sky", (1, 2, 3)), (3, "void", (0, 0, 0))],
    [(1, "Road", (0, 0, 255)), (300, "Car", (255, 0, 0)), (65535, "Void", (0, 0, 0))],
]
FORMATS = ["JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "MPO", "JPEG2000", "ICO"]
NAMES = ["größe", "Frame 1", "图像", "a'b\"c", "frame-01", "x" * 200, "a.b.c", "-1", "№ 5"]
STRANGERS = ["notes.txt", "Thumbs.db", ".DS_Store", "._frame-0.png", "frame-0.json", "frame-0.tif", "frame-9.bmp",
             "desktop.ini", "frame-0.png.bak", "frame-7"]


class LabelSet:
    """A data set in a folder of its own: labels of classes.csv's numbers, written as grey, and twists of it."""

    def __init__(self, root: Path, chance: random.Random) -> None:
        self.root, self.chance = root, chance
        shutil.rmtree(root, ignore_errors=True)
        self.table = list(chance.choice(TABLES))
        self.colours = {number: colour for number, _, colour in self.table}
        self.meant: dict[Path, np.ndarray] = {}  # (h, w) numbers of the table
        self.size = (chance.randint(1, 12), chance.randint(2, 12))
        for split in ("train", "val"):
            for number in range(chance.randint(1, 4)):
                self.add(f"{split}/{split}-{chance.randrange(2)}/frame-{number}", self.size)
        self.write_table()

    def add(self, name: str, size: tuple[int, int]) -> None:
        """Write a picture and its label. name: without kind and ending; size: (h, w)."""
        chance = np.random.default_rng(self.chance.randrange(2**32))
        numbers = np.array([number for number, _, _ in self.table])
        some = self.chance.sample(range(len(numbers)), self.chance.randint(1, len(numbers)))
        label = numbers[chance.choice(some, size)]
        label[0, 0] = next(number for number, class_name, _ in self.table if class_name.lower() != "void")
        for kind in ("images", "labels"):
            (self.root / kind / name).parent.mkdir(parents=True, exist_ok=True)
        picture = chance.integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(picture).save(self.root / "images" / f"{name}.png")
        self.meant[self.root / "labels" / f"{name}.png"] = label
        self.write_grey(self.root / "labels" / f"{name}.png")

    def write_table(self, lines: list[str] | None = None) -> None:
        rows = [f"{number},{name},{r},{g},{b}" for number, name, (r, g, b) in self.table]
        (self.root / "classes.csv").write_text("\n".join(lines or ["label,name,red,green,blue", *rows]) + "\n")

    def some(self) -> list[Path]:
        """Return one label file, some, or all."""
        paths = sorted(self.meant)
        count = self.chance.choice([1, len(paths), self.chance.randint(0, len(paths))])
        return self.chance.sample(paths, min(count, len(paths)))

    def write_grey(self, path: Path, bits: int = 8, interlace: bool = False) -> None:
        label = self.meant[path]
        bits = 16 if label.max() >= 2**bits else bits
        self._write(path, label, greyscale=True, bitdepth=bits, interlace=interlace)

    def _write(self, path: Path, values: np.ndarray, **options: object) -> None:
        writer = png.Writer(values.shape[1], values.shape[0], compression=self.chance.choice([0, 9]), **options)
        with open(path, "wb") as file:
            writer.write(file, values.reshape(len(values), -1).tolist())

    def depth(self) -> None:
        """Numbers in as few bits as they need, or in more."""
        for path in self.some():
            fits = [bits for bits in (1, 2, 4, 8, 16) if self.meant[path].max() < 2**bits]
            self.write_grey(path, self.chance.choice(fits), self.chance.random() < 0.3)

    def reduced(self) -> None:
        """Grey of 8 bits in fewer bits, as optimisers write it, where no picture changes by it."""
        for path in self.some():
            for bits in (1, 2, 4):
                scale = 255 // (2**bits - 1)
                if not (self.meant[path] % scale).any() and self.meant[path].max() < 256:
                    self._write(path, self.meant[path] // scale, greyscale=True, bitdepth=bits)
                    break

    def channels(self) -> None:
        """Numbers in several channels that are equal, or nearly; opaque, or nearly."""
        for path in self.some():
            label, bits = self.meant[path], 16 if self.meant[path].max() > 255 or self.chance.random() < 0.2 else 8
            channels = [label] * self.chance.choice([1, 3])
            if self.chance.random() < 0.15 and len(channels) == 3:
                channels[1] = label[::-1].copy()
            alpha = self.chance.random() < 0.5
            if alpha:
                channels.append(np.full_like(label, 2**bits - 1))
                if self.chance.random() < 0.2:
                    channels[-1][-1, -1] = self.chance.choice([0, 254])
            self._write(path, np.dstack(channels), greyscale=len(channels) < 3, alpha=alpha, bitdepth=bits)

    def palette(self) -> None:
        """Numbers, or entries in another order, with palettes of any sort."""
        sort = self.chance.choice(["table", "shuffled", "own", "sorted", "grey", "strange", "map", "packed"])
        numbers = [number for number, _, _ in self.table if number < 256]
        shuffled = self.chance.sample(numbers, len(numbers))
        strange = {number: (self.chance.randrange(256), number, self.chance.randrange(256)) for number in numbers}
        interlace, clear = self.chance.random() < 0.2, self.chance.random() < 0.1
        for path in self.some() if self.chance.random() < 0.4 else sorted(self.meant):
            label = self.meant[path]
            used = list(dict.fromkeys(label.ravel().tolist()))
            if max(used) > 255 or not set(used) <= set(numbers):
                continue
            entries = {number: number for number in numbers}  # number in the table -> number in the file
            colours = dict(self.colours)
            if sort == "shuffled":
                entries = dict(zip(numbers, shuffled, strict=True))
            elif sort in ("own", "packed"):
                entries = {number: place for place, number in enumerate(used)}
            elif sort == "sorted":
                entries = {number: place for place, number in enumerate(sorted(used, key=self.colours.__getitem__))}
            if sort in ("grey", "packed"):
                colours = {number: (number, number, number) for number in numbers}
            elif sort in ("strange", "map"):
                colours = strange if sort == "strange" else {number: voc(number) for number in numbers}
            palette: list[tuple[int, ...]] = [(n, n, n) if sort == "grey" else (0, 0, 0)
                                              for n in range(max(entries.values()) + 1)]
            for number, entry in entries.items():
                palette[entry] = colours[number]
            palette = [(*colour, self.chance.choice([0, 255])) for colour in palette] if clear else palette
            bits = next(bits for bits in (1, 2, 4, 8) if len(palette) <= 2**bits)
            bits = self.chance.choice([bits, 8])
            self._write(path, np.vectorize(entries.get)(label), palette=palette, bitdepth=bits, interlace=interlace)

    def stray(self) -> None:
        """A number of no class, a pixel of another, or void alone."""
        for path in self.some():
            label = self.meant[path]
            self.meant[path] = label.copy()
            self.meant[path][0, 0] = self.chance.choice([5, 99, 255, 254, 1])
            self.write_grey(path)

    def chunks(self) -> None:
        """Parts of a PNG that say nothing about numbers, or something odd about them."""
        for path in self.some():
            said = self.chance.choice([
                (b"tEXt", b"Comment\0" + b"x" * 300), (b"gAMA", (45455).to_bytes(4, "big")),
                (b"sRGB", b"\0"), (b"eXIf", b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"),
                (b"pHYs", bytes(4) + bytes([0, 0, 0, 3, 1])), (b"prVt", self.chance.randbytes(40)),
                (b"tRNS", self.chance.choice([0, 1, 9]).to_bytes(2, "big")), (b"sBIT", b"\x08"),
                (b"iCCP", b"a\0\0" + zlib.compress(bytes(200))), (b"tIME", bytes([7, 230, 1, 1, 1, 1, 1])),
                (b"zTXt", b"a\0\0" + zlib.compress(bytes(70000))), (b"acTL", bytes([0, 0, 0, 1, 0, 0, 0, 0]))])
            try:
                parts = list(png.Reader(bytes=path.read_bytes()).chunks())
            except (png.Error, EOFError):  # another twist's
                continue
            kinds = [kind for kind, _ in parts]
            if said[0] in (b"tRNS", b"sBIT") and (b"PLTE" in kinds or parts[0][1][9] != 0):
                continue
            parts.insert(1 if said[0] != b"tRNS" else kinds.index(b"IDAT"), said)
            with open(path, "wb") as file:
                png.write_chunks(file, parts)

    def format(self) -> None:
        """Another format, under the name of a PNG or its own; a picture instead of a label, or no picture at all."""
        for path in self.some():
            if self.meant[path].max() > 255:
                continue
            image = Image.fromarray(self.meant[path].astype(np.uint8))
            if self.chance.random() < 0.3:
                path = self.root / "images" / path.relative_to(self.root / "labels")
                image = Image.fromarray(np.full((*image.size[::-1], 3), 77, np.uint8))
            kind, data = self.chance.choice(FORMATS), io.BytesIO()
            image.save(data, kind, **({"lossless": True} if kind == "WEBP" else {}))
            data.seek(0)
            path.write_bytes(self.chance.choice([data.read(), data.read(), b"", path.read_bytes()[:50]]))

    def names(self) -> None:
        """Names of files in other letters, other endings, without a partner, and strangers among them."""
        for number, path in enumerate(self.some()):
            label, twin = self.meant.pop(path, None), self.root / "images" / path.relative_to(self.root / "labels")
            if label is None or not twin.exists() or not path.exists():  # another twist's
                continue
            odd = f"{self.chance.choice(NAMES)}{number}.png"
            taken_apart = unicodedata.normalize("NFD", odd)  # as macOS writes it
            named = [path.rename(path.with_name(self.chance.choice([odd, taken_apart]))), twin.rename(
                twin.with_name(odd))]
            self.meant[named[0]] = label
            which = self.chance.choice(named)
            if self.chance.random() < 0.3:
                other = self.chance.choice([f"{which.stem}_mask.png", which.name.upper(), f"{which.stem}.jpg", ""])
                which.rename(which.with_name(other)) if other else which.unlink()
                del self.meant[named[0]]
            if self.chance.random() < 0.5:
                which.with_name(self.chance.choice(STRANGERS)).write_bytes(self.chance.randbytes(50))

    def folders(self) -> None:
        """Scenes beside the drives, deeper than drives, and folders of systems."""
        split = self.chance.choice(["train", "val"])
        name = self.chance.choice([f"{split}/loose", f"{split}/{split}-0/deep/frame-1", f"{split}/a b/frame-1",
                                   f"{split}/1/2/3/frame", f"{split}/zz/frame-10", f"{split}/ÄÖ/frame-10"])
        self.add(name, self.size)
        for kind in ("images", "labels"):
            litter = self.root / kind / split / self.chance.choice([".cache", "__MACOSX", "@eaDir", "empty"])
            litter.mkdir(exist_ok=True)
            if litter.name != "empty":
                (litter / "frame-1.png").write_bytes(b"litter")

    def sizes(self) -> None:
        """Scenes of another size, or a label of another size than its picture."""
        split = self.chance.choice(["train", "val"])
        self.add(f"{split}/{split}-1/frame-20", (self.chance.randint(1, 14), self.chance.randint(1, 14)))
        for path in self.some()[:1] if self.chance.random() < 0.2 else []:
            self.meant[path] = np.vstack([self.meant[path], self.meant[path][:1]])
            self.write_grey(path)

    def words(self) -> None:
        """A table in other words: ends of lines, marks, comments, spaces, columns, doubles, other letters."""
        self.write_table()
        path = self.root / "classes.csv"
        lines = path.read_text().splitlines()
        head, first = lines[0], lines[1]
        number, name, *colour = first.split(",")
        trained = [f"{head},trained_as"] + [
            f"{line},{self.chance.choice(['Road', 'road', 'Road ', 'Sky', ''])}" for line in lines[1:]]
        changed = self.chance.choice([
            lines, ["# a comment", "", *lines, "  "], [line.replace(",", " , ") for line in lines],
            [*lines, first], [*lines, ",".join([number, "Other", *colour])], trained,
            [",".join(line.split(",")[:2]) for line in lines], [*lines, f"44,{name.upper()},1,1,1"],
            [*lines, f"45,{name} ,1,1,1"], [head, *lines[:0:-1]], [*lines, ",".join(["46", "Twin", *colour])],
            lines[:-1], [line.replace(",", ";") for line in lines], [*lines, "47,\"A, b\",1,1,1"],
            [head.replace("label", "id"), *lines[1:]], [*lines, "x,y,1,2,3"], [*lines, "48,Late,1,2,999"],
            [line + "," for line in lines], [head.upper(), *lines[1:]], lines[1:], [*lines, "49,Late,,,"]])
        text = self.chance.choice(["\n", "\n", "\r\n", "\r"]).join(changed) + self.chance.choice(["\n", ""])
        encoding = self.chance.choice(["utf-8", "utf-8", "utf-8-sig", "utf-16", "cp1252"])
        path.write_bytes(text.encode(encoding, "replace"))


TWISTS: list[Callable[[LabelSet], None]] = [
    LabelSet.depth, LabelSet.reduced, LabelSet.channels, LabelSet.palette, LabelSet.palette, LabelSet.stray,
    LabelSet.chunks, LabelSet.format, LabelSet.names, LabelSet.folders, LabelSet.sizes, LabelSet.words]


def make(root: Path, chance: random.Random, twists: list[Callable[[LabelSet], None]] | None = None) -> list[str]:
    """Write a data set with these twists, or with one to three. Returns their names."""
    made = LabelSet(root, chance)
    twists = twists or chance.choices(TWISTS, k=chance.choice([1, 1, 1, 2, 3]))
    for twist in twists:
        twist(made)
    return [twist.__name__ for twist in twists]
