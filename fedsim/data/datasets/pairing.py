"""Pictures paired with their labels by their names, and the files of a folder that belong to no pair.

Names are compared as people read them: composed and decomposed letters are the same, and bytes that are no UTF-8 are
shown as a replacement character.
"""

import os
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from os.path import isfile
from pathlib import Path
from typing import NoReturn
from unicodedata import normalize

from fedsim.data.datasets.picture_files import folders, is_litter, natural
from fedsim.errors import DataError
from fedsim.system.names import printable

Report = Callable[[list[DataError]], None]
NAMED = 3  # files that a note names
LOOKED_AT = 50  # names of each kind that are compared to find out how they differ


def refuse(faults: list[DataError]) -> NoReturn:
    """Raise the first of some faults of one kind."""
    raise faults[0]


def readable(name: str) -> str:
    """Return the name of a file as text that can be written anywhere, the same for all ways to encode its letters."""
    return normalize("NFC", printable(name))


def by_name(paths: Iterable[Path], ending: str = "", report: Report = refuse) -> dict[str, Path]:
    """Return the pictures by name: the file name without its extension and, if it has it, without `ending`.

    Reports a DataError if two have the same name, such as a.png and a.jpg.
    """
    named: dict[str, Path] = {}
    faults = []
    for path in paths:
        other = named.setdefault(readable(path.stem).removesuffix(ending), path)
        if other != path:
            how = "but different endings" if other.stem == path.stem else "to a reader"
            faults.append(DataError(f"{other} and {path.name} have the same name {how}; take one of them out",
                                    "files of the same name"))
    if faults:
        report(faults)
    return named


def find_file(path: Path) -> Path | None:
    """Return a file by its path, or the one in its folder whose name reads the same; None if there is no such file."""
    if isfile(path):
        return path
    try:
        return next((one for one in path.parent.iterdir() if readable(one.name) == readable(path.name)), None)
    except OSError:
        return None


def folders_by_name(folder: Path, report: Report = refuse) -> dict[str, Path]:
    """Return the folders in a folder by name. Reports a DataError if two have names that read the same."""
    named: dict[str, Path] = {}
    for path in folders(folder):
        if (other := named.setdefault(readable(path.name), path)) != path:
            report([DataError(f"{other} and {path.name} have the same name to a reader; rename one of them",
                              "files of the same name")])
    return named


def pair(images: Mapping[str, Path], labels: Mapping[str, Path], labels_folder: Path,
         report: Report = refuse) -> Iterator[tuple[str, Path, Path]]:
    """Yield (name, picture, label) in natural order. Reports a DataError for each of the two that is missing."""
    alone, widows = (sorted(one.keys() - other.keys(), key=natural)
                     for one, other in ((images, labels), (labels, images)))
    if alone and widows and (sample := _renamed(alone, widows)):
        one, other = images[sample[0]], labels[sample[1]]
        report([DataError(f"{len(alone)} picture(s) and {len(widows)} label(s) under {labels_folder} have other names, "
                          f"such as {one} and {other}; a label is called as its picture",
                          "pictures and labels of other names")])
    else:
        if alone:
            there = _files_by_name(labels_folder)
            report([DataError(f"{images[name]} has no label in {labels_folder}; {_way_out(there.get(name))}"
                              + _others(alone, "pictures without a label"), "pictures without a label")
                    for name in alone])
        if widows:
            report([DataError(f"{labels[name]} is the label of no picture; add the picture or take the label out"
                              + _others(widows, "labels without a picture"), "labels without a picture")
                    for name in widows])
    for name in sorted(images.keys() & labels.keys(), key=natural):
        yield name, images[name], labels[name]


def _renamed(images: list[str], labels: list[str]) -> tuple[str, str] | None:
    """Return a picture and a label whose names differ by what stands before and after, or in capitals; else None."""
    for image in images[:LOOKED_AT]:
        for label in labels[:LOOKED_AT]:
            one, other = sorted((image.casefold(), label.casefold()), key=len)
            if one in other:
                return image, label
    return None


def _way_out(there: str | None) -> str:
    """Say what to do about a label that is missing. there: the name of a file of the label's name, if there is one."""
    if there:
        return f"{there} is there, but a label must be a PNG: save it as PNG"
    return "add the label or take the picture out"


def _files_by_name(folder: Path) -> dict[str, str]:
    try:
        return {readable(path.stem): path.name for path in folder.iterdir() if not path.is_dir()}
    except OSError:
        return {}


def _others(names: list[str], what: str) -> str:
    return f" (one of {len(names)} {what})" if len(names) > 1 else ""


def note_unused(folders: Iterable[Path], used: Iterable[Path], known_folders: Iterable[Path] = ()) -> list[str]:
    """Return a sentence for each folder that holds, at any depth, files that are neither used nor hidden.

    used: the files that are used, by the same paths. known_folders: folders in which nothing is unused.
    """
    passed_over = {os.fspath(path) for path in known_folders}
    known, notes = {os.fspath(path) for path in used}, []
    for folder in folders:
        unused = [path for path in _walk(folder, passed_over) if path not in known]
        if unused:
            kinds = Counter(os.path.splitext(path)[1].lower() or "without an ending" for path in unused)
            counted = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
            shown = ", ".join(unused[:NAMED]) + (" …" if len(unused) > NAMED else "")
            notes.append(printable(f"{len(unused)} file(s) under {folder} are not used ({counted}): {shown}"))
    return notes


def _walk(folder: Path, passed_over: Container[str]) -> Iterator[str]:
    """Yield the files at any depth of a folder, but for hidden ones and what systems leave behind."""
    for place, inner, files in os.walk(folder):
        inner[:] = sorted((name for name in inner
                           if not is_litter(name) and os.path.join(place, name) not in passed_over), key=natural)
        yield from (os.path.join(place, name) for name in sorted(files, key=natural) if not is_litter(name))
