"""Splits as others publish them: files that give each client the paths of its pictures.

LEAF's JSON (Caldas et al. 2018, arXiv:1812.01097), as FedDrive and LADD publish it: a file, or a folder of such files.

    {"users": ["erfurt6", …], "user_data": {"erfurt6": {"x": ["train/erfurt/erfurt_000027_000019_leftImg8bit.png", …]}}}

A table in CSV with a picture and its car in each line, with or without the heading `picture,car`.

A picture is a scene of the data set by the last parts of its path, without the extension.
"""

import csv
import io
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from fedsim.errors import DataError

ENDINGS = ("_leftImg8bit",)  # which a data set adds to the names of all of its pictures
LARGEST = 2**30  # bytes; a larger file is refused; a million scenes take 50 MB
SHOWN = 5  # pictures that a sentence names
HEADING = ("picture", "car")


def read_leaf(path: Path, content: Any) -> dict[str, list[str]]:
    """Return the pictures of each user of a LEAF file by the user's name. Raises DataError if it is no such file."""
    data = content.get("user_data") if isinstance(content, dict) else None
    data = data if isinstance(data, dict) else {}
    users = content.get("users", [*data])
    found: dict[str, list[str]] = {}
    for user in users if data and isinstance(users, list) else ():
        pictures = data[user].get("x") if isinstance(user, str) and isinstance(data.get(user), dict) else None
        if not isinstance(pictures, list) or not all(isinstance(picture, str) for picture in pictures):
            raise DataError(f"{path} gives its user {str(user)[:100]!r} no list \"x\" of pictures under \"user_data\"; "
                            "take a LEAF file as it was published")
        if user in found:
            raise DataError(f"{path} has user {user[:100]!r} twice; take one of them out")
        found[user] = pictures
    if not found:
        raise DataError(f"{path} has no \"user_data\" with users and their pictures; take a LEAF file as it was "
                        "published")
    return found


def is_leaf(content: Any) -> bool:
    """Return whether the content of a JSON file is meant as LEAF's."""
    return isinstance(content, dict) and "user_data" in content


def read_table(path: Path) -> dict[str, list[str]]:
    """Return the pictures of each car of a CSV by the car's name. Raises DataError for a line without the two."""
    found: dict[str, list[str]] = defaultdict(list)
    try:
        text = read_whole(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not text in UTF-8; write a picture and its car in each line") from error
    try:
        for number, row in enumerate(csv.reader(io.StringIO(text), strict=True), start=1):
            cells = [cell.strip() for cell in row]
            if not any(cells) or (number == 1 and tuple(cell.lower() for cell in cells) == HEADING):
                continue
            if len(cells) != 2 or not all(cells):
                raise DataError(f"{path}, line {number}, must be a picture and its car, with a comma between them")
            found[cells[1]].append(cells[0])
    except csv.Error as error:
        raise DataError(f"{path} is not CSV ({error}); write a picture and its car in each line") from error
    if not found:
        raise DataError(f"{path} has no line with a picture and its car")
    return dict(found)


def list_files(folder: Path) -> list[Path]:
    """Return the JSON files of a folder, those that end in a number in the order of numbers. Raises DataError."""
    files = sorted(folder.glob("*.json"), key=lambda path: [
        int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name)])
    if not files:
        raise DataError(f"{folder} holds no .json file; name a partition file, or a folder of LEAF files")
    return files


def load_json(path: Path) -> Any:
    """Return the content of a JSON file. Raises DataError."""
    try:
        return json.loads(read_whole(path))
    except (ValueError, RecursionError) as error:
        reason = f" (line {error.lineno}: {error.msg})" if isinstance(error, json.JSONDecodeError) else ""
        raise DataError(f"{path} is not JSON{reason}; name a file that fedsim has written, or a published split"
                        ) from error


def read_whole(path: Path) -> bytes:
    """Return the bytes of a file. Raises DataError if there is none, or it is too large for names of scenes."""
    try:
        if not path.is_file():  # reading a pipe would wait for ever
            raise DataError(f"there is no file {path}; name one that fedsim has written, or a published split")
        if path.stat().st_size > LARGEST:
            raise DataError(f"{path} is larger than {LARGEST >> 30} GiB; a split holds only names")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path} ({error.strerror}); name a file that you may read") from error


def find_scenes(path: Path, pictures: Iterable[str], names: Sequence[str]) -> list[str]:
    """Return the scene of each picture. path: of the split, for a sentence; names: of all scenes.

    The last part of a picture's path must be that of a scene's name; if several scenes have it, the parts before it
    decide. Raises DataError naming the pictures that are no scene, or that may be several.
    """
    by_last: dict[str, list[str]] = defaultdict(list)
    for name in names:
        by_last[_parts(name)[-1]].append(name)
    found: list[str] = []
    unknown: list[str] = []
    unclear: list[str] = []
    for picture in pictures:
        parts = _parts(_without_ending(picture))
        scenes = by_last.get(parts[-1], [])
        if len(scenes) > 1:
            scenes = [name for name in scenes if parts[-len(_parts(name)):] == _parts(name)]
        if len(scenes) == 1:
            found.append(scenes[0])
        else:
            (unclear if by_last.get(parts[-1]) else unknown).append(picture)
    for those, what in ((unknown, "that are not training scenes"),
                        (unclear, "that could be several training scenes or whose folders are those of no scene")):
        if those:
            first = ", ".join(repr(picture[:100]) for picture in those[:SHOWN])
            raise DataError(f"{path} has {len(those)} picture(s) {what}, first {first}; it belongs to another data "
                            "set, or to another layout of it")
    return found


def _without_ending(picture: str) -> str:
    """Return a picture's path without its extension, and without what its data set adds to every name."""
    stem = re.sub(r"\.[A-Za-z0-9]{1,5}$", "", picture.replace("\\", "/"))
    return next((stem.removesuffix(ending) for ending in ENDINGS if stem.endswith(ending)), stem)


def _parts(path: str) -> tuple[str, ...]:
    return PurePosixPath(path).parts or ("",)
