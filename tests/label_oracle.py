"""What the labels of a folder data set mean, found without fedsim.

PNG files are read by pypng. The meaning of a label is either known, known but such that a refusal is right as well, or
such that only a refusal is right.
"""

import csv
import io
import os
import unicodedata
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import png
from PIL import Image

VOID = 255
LITTER = {"__MACOSX", "@eaDir", "Thumbs.db", "desktop.ini"}  # of systems; names with a leading dot are hidden
Colour = tuple[int, int, int]


class Unreadable(Exception):
    """A label, or a table, that must be refused."""


@dataclass
class Table:
    """A classes.csv: classes are numbered as they first appear, and are called in small letters."""

    names: list[str] = field(default_factory=list)  # of classes
    classes: dict[int, int] = field(default_factory=dict)  # number in labels -> class or VOID
    colours: dict[Colour, set[int]] = field(default_factory=dict)  # -> classes, or VOID
    spellings: dict[str, set[str]] = field(default_factory=dict)  # of each class
    odd: list[str] = field(default_factory=list)  # why it may be refused


class Raw(NamedTuple):
    """A label file as it is stored."""

    samples: np.ndarray  # (h, w) int, numbers or numbers of a palette
    bits: int | None  # of grey samples; None for a palette
    palette: list[Colour]
    odd: list[str]  # why it may be refused


@dataclass
class Verdict:
    """What is right for a split. Scenes are called DRIVE/FRAME, in composed letters."""

    names: list[str] = field(default_factory=list)  # of classes
    labels: dict[str, np.ndarray] = field(default_factory=dict)  # (h, w) class or VOID
    pictures: dict[str, Path] = field(default_factory=dict)
    must: list[str] = field(default_factory=list)  # why it must be refused
    may: list[str] = field(default_factory=list)  # why it may be refused
    files: set[Path] = field(default_factory=set)  # all that are not hidden


def plain(name: str) -> str:
    """Return a name in small letters, with single spaces and composed letters."""
    return " ".join(unicodedata.normalize("NFC", name).casefold().split())


def read_table(path: Path) -> Table:
    """Read a classes.csv. Raises Unreadable."""
    table, data = Table(), path.read_bytes()
    wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    text = data.decode("utf-16" if wide else "utf-8-sig", errors="replace")
    table.odd += ["no UTF-8"] if wide or "\ufffd" in text else []
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    between = next((sign for sign in ",;\t" if lines and sign in lines[0]), ",")
    table.odd += ["no commas"] if between != "," else []
    rows = csv.DictReader(io.StringIO("\n".join(lines)), delimiter=between)
    for row in rows:
        table.odd += ["missing or additional fields"] if None in row or None in row.values() else []
        values = {key.strip().lower(): (value or "").strip() for key, value in row.items() if key is not None}
        table.odd += ["a header in other letters"] if values.keys() != row.keys() - {None} else []
        if not {"label", "name"} <= values.keys():
            raise Unreadable("the table has no columns label and name")
        _add_row(table, values)
    if not table.names:
        raise Unreadable("the table has no class")
    table.odd += ["a colour twice" for classes in table.colours.values() if len(classes) > 1]
    return table


def _add_row(table: Table, row: dict[str, str]) -> None:
    written, number = row.get("trained_as", row["name"]), row["label"]
    name = plain(written)
    if not (number.isascii() and number.isdigit() and int(number) < 2**16):
        raise Unreadable(f"the table has the label {number}")
    table.odd += [] if row["name"] else ["a label without a name"]
    table.odd += ["a class called void"] if name == "void" and "trained_as" in row else []
    spellings = table.spellings.setdefault(name, set())
    table.odd += ["a name twice"] if spellings and ("trained_as" not in row or spellings != {written}) else []
    spellings.add(written)
    meaning = VOID
    if name not in ("", "void"):
        table.names += [] if name in table.names else [name]
        meaning = table.names.index(name)
    if int(number) in table.classes:
        table.odd.append("a number twice")
        if table.classes[int(number)] != meaning:
            raise Unreadable(f"the table has the label {number} twice")
    table.classes[int(number)] = meaning
    given = [row.get(channel, "") for channel in ("red", "green", "blue")]
    if all(given):
        if not all(value.isdigit() and int(value) < 256 for value in given):
            raise Unreadable(f"the table has the colour {given}")
        table.colours.setdefault((int(given[0]), int(given[1]), int(given[2])), set()).add(meaning)
    elif any(given) or "red" in row:
        table.odd.append("no colour")


def read_png(path: Path) -> Raw:
    """Read the samples of a label file. Raises Unreadable."""
    try:
        width, height, rows, info = png.Reader(bytes=path.read_bytes()).read()
        stored = np.vstack([np.asarray(row, np.int64) for row in rows]).reshape(height, width, info["planes"])
        odd = []
    except Exception:
        stored, info = _read_leniently(path)
        odd = ["a checksum"]
    bits = info["bitdepth"]
    odd += ["a mark that turns it"] if b"eXIf" in path.read_bytes() else []
    if "palette" in info:
        return _paletted(stored[..., 0], info["palette"], odd)
    if "transparent" in info:
        marked = np.equal(stored, np.atleast_1d(info["transparent"])).all(-1)
        odd += ["a transparent number"] if marked.any() else ["a mark of transparency"]
    if info["alpha"]:
        if (stored[..., -1] != 2 ** bits - 1).any():
            raise Unreadable(f"{path} is not opaque")
        odd += ["16 bits with alpha"] if bits == 16 else []
        stored = stored[..., :-1]
    if stored.shape[-1] == 3:
        if bits == 16:
            raise Unreadable(f"{path} is of colours of 16 bits")
        if (stored != stored[..., :1]).any():
            raise Unreadable(f"{path} is of colours")
    return Raw(stored[..., 0], bits, [], odd)


def _read_leniently(path: Path) -> tuple[np.ndarray, dict[str, Any]]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            width, height, rows, info = png.Reader(bytes=path.read_bytes()).read(lenient=True)
            return np.vstack([np.asarray(row, np.int64) for row in rows]).reshape(height, width, info["planes"]), info
    except Exception as error:
        raise Unreadable(f"{path} is no whole PNG ({error})") from error


def _paletted(numbers: np.ndarray, palette: list[tuple[int, ...]], odd: list[str]) -> Raw:
    used = np.unique(numbers)
    if used[-1] >= len(palette):
        raise Unreadable("a pixel has no colour in the palette")
    clear = [len(palette[number]) > 3 and palette[number][3] < 255 for number in used]
    odd = [*odd, "a transparent number"] if any(clear) else odd
    return Raw(numbers, None, [(entry[0], entry[1], entry[2]) for entry in palette], odd)


def judge(root: Path, split: str) -> Verdict:
    """Read a split of the data set in a folder, and say what is right for it."""
    try:
        table = read_table(root / "classes.csv")
    except Unreadable as error:
        return Verdict(must=[str(error)])
    verdict = Verdict(names=table.names, may=list(table.odd))
    raw: dict[str, Raw] = {}
    for name, (picture, label) in _pair(root, split, verdict).items():
        verdict.pictures[name] = picture
        try:
            raw[name] = read_png(label)
        except Unreadable as error:
            verdict.must.append(str(error))
            continue
        verdict.may += raw[name].odd
        _check_picture(picture, raw[name].samples.shape[::-1], verdict)
    paletted = {name: one for name, one in raw.items() if one.bits is None}
    classes = _palettes(paletted, _other_palettes(root, split), table, verdict)
    classes |= {name: _grey(one, table, verdict) for name, one in raw.items() if one.bits is not None}
    for name, found in classes.items():
        if found is None or (found == VOID).all():
            verdict.must.append(f"{name} has a number of no class, or void alone")
        else:
            verdict.labels[name] = found
    return verdict


def _other_palettes(root: Path, split: str) -> list[Raw]:
    """Read the labels with palettes of the other splits, as far as they can be read."""
    found = []
    for other in {"train", "val"} - {split}:
        for _, label in _pair(root, other, Verdict()).values():
            try:
                found.append(read_png(label))
            except Unreadable:
                continue
    return [one for one in found if one.bits is None]


def _pair(root: Path, split: str, verdict: Verdict) -> dict[str, tuple[Path, Path]]:
    """Find the scenes of a split by their names: DRIVE/FRAME -> picture and label."""
    images, labels = (_files(root / kind / split, split, verdict) for kind in ("images", "labels"))
    also = {plain(name) for name in images} & {plain(name) for name in labels}
    for name in images.keys() ^ labels.keys():
        odd = plain(name) in also or "loose files or deep folders" in verdict.may
        (verdict.may if odd else verdict.must).append(f"{name} has no counterpart")
    verdict.may += ["letters alone differ"] if len({plain(name) for name in images}) < len(images) else []
    verdict.must += [] if images else ["no picture"]
    return {name: (images[name], labels[name]) for name in images.keys() & labels.keys()}


def _files(top: Path, split: str, verdict: Verdict) -> dict[str, Path]:
    """Return the pictures below a folder by their names, in composed letters. Drives come first in a name."""
    found: dict[str, Path] = {}
    depths = set()
    for folder, below, names in os.walk(top, followlinks=True):
        verdict.may += [] if below or names else ["an empty folder"]
        below[:] = [name for name in below if not _hidden(name)]
        for path in (Path(folder, name) for name in names if not _hidden(name)):
            verdict.files.add(path)
            if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
                verdict.may.append("another ending")
                continue
            drives = path.relative_to(top).parts[:-1]
            depths.add(len(drives))
            name = unicodedata.normalize("NFC", "/".join([*(drives or [split]), path.stem]))
            verdict.may += ["a name twice"] if name in found else []
            found[name] = path
    verdict.may += ["loose files or deep folders"] if not depths <= {0} and not depths <= {1} else []
    return found


def _check_picture(path: Path, size: tuple[int, ...], verdict: Verdict) -> None:
    try:
        with Image.open(path) as picture:
            picture.load()
            verdict.must += [] if picture.size == size else [f"{path} has another size than its label"]
            verdict.may += [] if picture.format in ("PNG", "JPEG") else ["another format of a picture"]
    except (OSError, SyntaxError):
        verdict.must.append(f"{path} is no picture")


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in LITTER


def _look_up(numbers: np.ndarray, meanings: dict[int, int]) -> np.ndarray | None:
    """Return the meaning of each number; None if one has no meaning."""
    if not set(np.unique(numbers).tolist()) <= meanings.keys():
        return None
    return np.vectorize(meanings.__getitem__, otypes=[np.uint8])(numbers)


def _grey(raw: Raw, table: Table, verdict: Verdict) -> np.ndarray | None:
    """Return the classes of a label of grey samples; None where one has no class."""
    assert raw.bits is not None
    scale = 255 // (2 ** raw.bits - 1) if raw.bits < 8 else 1
    used = set(np.unique(raw.samples).tolist())
    if scale > 1 and used - {0} and {number * scale for number in used} <= table.classes.keys():
        verdict.may.append("samples, or samples that are scaled")
        if not used <= table.classes.keys():
            return _look_up(raw.samples * scale, table.classes)
        verdict.must += ["1 may be 1 or 255"] if raw.bits == 1 else []
    return _look_up(raw.samples, table.classes)


def voc(number: int) -> Colour:
    """Return a colour of the map of PASCAL VOC."""
    bits = [[number >> 3 * place + channel & 1 for place in range(3)] for channel in range(3)]
    red, green, blue = (sum(bit << 7 - place for place, bit in enumerate(channel)) for channel in bits)
    return red, green, blue


def _is_ramp(raw: Raw) -> bool:
    return raw.palette == [(n, n, n) for n in range(len(raw.palette))]


def _uses(raw: Raw) -> set[tuple[int, Colour]]:
    """Return the numbers of a label with their colours. VOC's black is the background of its map, and no class."""
    uses = {(number, raw.palette[number]) for number in np.unique(raw.samples).tolist()}
    return uses - {(0, (0, 0, 0))} if all(colour == voc(number) for number, colour in uses) else uses


def _palettes(files: dict[str, Raw], others: list[Raw], table: Table,
              verdict: Verdict) -> dict[str, np.ndarray | None]:
    """Return the classes of labels with palettes; None where a pixel has no class.

    Those of all splits are looked at together. others: those of the other splits.
    """
    ramps = {name for name, raw in files.items() if _is_ramp(raw)}
    seen = {use for raw in (*files.values(), *others) if not _is_ramp(raw) for use in _uses(raw)}
    all_known = all(colour in table.colours for _, colour in seen)
    elsewhere = any(colour in table.colours and table.classes.get(number) not in table.colours[colour]
                    for number, colour in seen)
    if all_known and elsewhere:
        verdict.may.append("palettes with the table's colours at other numbers")
        ramps -= {name for name in ramps if len(files[name].palette) == 1}  # black alone is a colour among colours
        return {name: _look_up(raw.samples, table.classes if name in ramps else _by_colour(raw, table, verdict))
                for name, raw in files.items()}
    if not all_known and all(len(set(colour)) == 1 for _, colour in seen) and any(c[0] != n for n, c in seen):
        verdict.may.append("palettes of grey")  # as optimisers make them of labels that were grey
        return {name: _look_up(np.array(raw.palette)[raw.samples][..., 0], table.classes)
                for name, raw in files.items()}
    if not all_known and len({number for number, _ in seen}) < len(seen):
        verdict.must.append("a number has two colours")
    verdict.may += ["palettes that contradict the numbers"] if elsewhere else []
    return {name: _look_up(raw.samples, table.classes) for name, raw in files.items()}


def _by_colour(raw: Raw, table: Table, verdict: Verdict) -> dict[int, int]:
    """Return what the numbers of a palette mean by their colours."""
    meanings = {number: table.colours[raw.palette[number]] for number in np.unique(raw.samples).tolist()}
    verdict.must += ["a colour of two classes" for classes in meanings.values() if len(classes) > 1]
    return {number: min(classes) for number, classes in meanings.items()}
