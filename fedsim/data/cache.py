"""The scene cache: scenes are read once, then memory-mapped from disk.

    ROOT/<key>/images.npy (N, 3, H, W) uint8           ROOT/<key>/labels.npy (Σ h·w,) uint8, label after label
    ROOT/<key>/histograms.npy (N, C) int64             ROOT/<key>/meta.json, with digests of all arrays

ROOT is $FEDSIM_CACHE, else $XDG_CACHE_HOME/fedsim, else ~/.cache/fedsim. The key is a digest of everything that the
arrays depend on, so an entry never changes. A new entry is written under another name, synced to the disk, and renamed
when it is complete. An entry whose content is not what was written is made anew.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fedsim.data.cache_entries import cache_folder, mark_used
from fedsim.data.pixels import resize_picture
from fedsim.data.scene_set import LabelMaps, SceneSet, Source, class_histogram
from fedsim.errors import DataError
from fedsim.system.console import show_steps
from fedsim.system.files import lock, sync

FORMAT_VERSION = 3  # raise it when the same source gives other files


def load(source: Source, split: str, image_size: tuple[int, int] | None,
         progress: Callable[[str], None] | None = None, verify: bool = True) -> SceneSet:
    """Return the scenes of a split: pictures at `image_size`, labels at their own size.

    image_size: (width, height) in pixels; None for the source's own training size.
    progress: called with one line if the scenes must be read first.
    verify: read an entry of the cache whole, and compare its digests; not needed just after another process has.
    Raises DataError if the data set or the cache directory cannot be used.
    """
    import PIL  # here, because a start needs it only when scenes are looked for

    size = image_size or source.image_size
    identity = source.identity(split)
    described = [source.name, identity, split, list(size), PIL.__version__, FORMAT_VERSION]
    key = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
    entry = cache_folder() / key
    scene_set = _open(entry, source, verify)
    if scene_set is not None:
        return scene_set
    with _only_builder(entry):
        scene_set = _open(entry, source, verify)  # another process may have built it while this one waited
        if scene_set is None:
            if progress:
                progress(f"Reading the {split} scenes of {source.name} at {size[0]}x{size[1]} into {entry.parent} "
                         "(only this once)")
            _build(entry, source, split, size, identity)
            scene_set = _open(entry, source, verify=False)
    assert scene_set is not None, f"{entry} was built and cannot be opened"
    return scene_set


def _open(entry: Path, source: Source, verify: bool) -> SceneSet | None:
    """Return the scenes of an entry; None if the entry is missing or damaged."""
    try:
        meta = json.loads((entry / "meta.json").read_bytes())
        if meta.pop("digest") != _digest(meta) or meta["key"] != entry.name:
            return None
        shapes = np.array(meta["shapes"], np.int64)
        images = _map(entry / "images.npy", meta["images"])
        pixels = _map(entry / "labels.npy", [int(shapes.prod(1).sum())])
        histograms = _map(entry / "histograms.npy", [len(shapes), len(source.classes)])
        arrays = (images, pixels, histograms)
        if verify and [hashlib.sha256(array.data).hexdigest() for array in arrays] != meta["digests"]:
            return None
        mark_used(entry)
        return SceneSet(images, LabelMaps(pixels, shapes), histograms, tuple(meta["names"]), tuple(meta["drives"]),
                        tuple(meta["times"]), source.classes, meta["fingerprint"], meta["remarks"])
    except Exception:  # numpy throws nearly anything at a damaged header
        return None


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _map(path: Path, shape: list[int]) -> np.ndarray:
    """Memory-map a file. Raises ValueError if it does not hold the array that was written."""
    array = np.load(path, mmap_mode="r")
    if list(array.shape) != shape or path.stat().st_size != array.offset + array.nbytes:
        raise ValueError(f"{path} is damaged")
    return array


@contextmanager
def _only_builder(entry: Path) -> Iterator[None]:
    """Hold the lock of an entry. The system frees it even if its holder is killed."""
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        with lock(entry.with_suffix(".lock"), wait=True):
            yield
    except OSError as error:
        raise DataError(f"cannot write the scene cache {entry.parent} ({error.strerror or error}); set "
                        "FEDSIM_CACHE to a directory on a local disk that you may write to") from error


def _build(entry: Path, source: Source, split: str, size: tuple[int, int], identity: dict[str, object]) -> None:
    """Write the entry. The caller holds its lock. Raises DataError if the data set changes meanwhile."""
    part = entry.with_suffix(".part")
    _remove(part)  # left by a builder that was killed: nobody else builds now
    try:
        part.mkdir()
        _write(part, source, split, size)
        if source.identity(split) != identity:
            raise DataError(f"the split {split} of {source.name} has changed while it was read; start again when "
                            "nothing writes to it any more")
        for path in (*part.iterdir(), part):
            sync(path)
        _remove(entry)  # it is damaged, or the caller would have opened it
        part.rename(entry)
        sync(entry.parent)
    finally:
        _remove(part)


def _remove(entry: Path) -> None:
    """Remove an entry, whatever stands under its name."""
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        entry.unlink(missing_ok=True)


def _write(part: Path, source: Source, split: str, size: tuple[int, int]) -> None:
    names, drives, times, shapes, histograms = [], [], [], [], []
    remarks: dict[str, list[str]] = {}
    with (open(part / "images.npy", "wb") as image_file, open(part / "labels.npy", "wb") as label_file,
          show_steps(f"reading {split}", source.count(split)) as advance):
        images, labels = _ArrayFile(image_file), _ArrayFile(label_file)
        for scene in source.scenes(split):
            images.append(resize_picture(scene.image, size).transpose(2, 0, 1)[None])
            labels.append(scene.label.ravel())
            names.append(scene.name)
            drives.append(scene.drive)
            times.append(scene.time)
            shapes.append(list(scene.label.shape))
            histograms.append(class_histogram(scene.label, len(source.classes)))
            for remark in scene.remarks:
                remarks.setdefault(remark, []).append(scene.name)
            advance()
        images_shape, _ = images.finish(), labels.finish()
    np.save(part / "histograms.npy", np.stack(histograms))
    counts = hashlib.sha256(np.stack(histograms).data)
    digests = [digest.hexdigest() for digest in (images.digest, labels.digest, counts)]
    # The fingerprint is what runs keep, so it stays the same when the format of the cache changes.
    alike = all(shape == shapes[0] for shape in shapes)
    content = {"images": images_shape, "labels": [len(names), *shapes[0]] if alike else shapes, "names": names,
               "drives": drives}
    meta: dict[str, Any] = {
        "key": part.stem, "source": source.name, "split": split, "size": list(size), "images": images_shape,
        "shapes": shapes,
        "names": names, "drives": drives, "times": times, "remarks": remarks,
        "digests": digests, "fingerprint": _digest([content, *digests[:2]])}
    (part / "meta.json").write_text(json.dumps(meta | {"digest": _digest(meta)}))


class _ArrayFile:
    """A .npy file of uint8 that grows along its first axis, so that memory holds one scene at a time."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.digest = hashlib.sha256()
        self.shape: list[int] = []

    def append(self, array: np.ndarray) -> None:
        """Write an array behind the others. It may differ from them in the length of its first axis."""
        if not self.shape:
            self.shape = [0, *array.shape[1:]]
            self._write_header()
        assert list(array.shape[1:]) == self.shape[1:], f"an array of {array.shape} after {self.shape}"
        data = np.ascontiguousarray(array, np.uint8).data
        self.file.write(data)
        self.digest.update(data)
        self.shape[0] += len(array)

    def finish(self) -> list[int]:
        """Write the final header. Return the array's shape."""
        assert self.shape, "the source has no scenes"
        self.file.seek(0)
        self._write_header()
        return self.shape

    def _write_header(self) -> None:
        # The header's length stays the same, because numpy leaves room for the first axis to grow.
        header = {"descr": "|u1", "fortran_order": False, "shape": tuple(self.shape)}
        np.lib.format.write_array_header_1_0(self.file, header)
