"""Scenes: data sets, the cache that memory-maps them, partitions, batches. A data set is one small module."""

from pathlib import Path

from fedsim.scenes.scene_set import Source

SOURCES = ("streets", "camvid")


def open_source(name: str, root: Path | None, drives: int) -> Source:
    """A data set by name. root: its folder, where it has one; drives: how many to make, where they are made."""
    if name == "streets":
        from fedsim.scenes.streets import Streets

        return Streets(drives)
    from fedsim.scenes.camvid import CamVid

    assert root is not None
    return CamVid(root)
