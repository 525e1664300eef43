"""Everything the coordinator writes during a run and at its end."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from fedsim.record.panel import panel
from fedsim.record.progress import Progress
from fedsim.record.run_directory import RunDirectory
from fedsim.record.tensorboard import TensorBoard
from fedsim.record.weights import save_weights
from fedsim.scenes.classes import ClassTable


class Shown(NamedTuple):
    """The scenes that panels show: always the same ones of the evaluated split."""

    names: list[str]
    images: np.ndarray  # (K, h, w, 3) uint8 RGB
    labels: np.ndarray  # (K, h, w) uint8 class index or VOID


class Journal:
    """The records of one run. Only the coordinator keeps one."""

    def __init__(self, directory: RunDirectory, classes: ClassTable, cars: list[str], rounds: int, *, last: int,
                 split: str, notes: Sequence[str], shown: Callable[[], Shown]) -> None:
        """last: the round that the run goes on from, -1 for a new run; what the directory has of later ones is removed.

        notes: what has to be known to read the scores; shown: makes the scenes of the panels, for the first one.
        Raises OutputError.
        """
        self.directory, self._classes, self._split, self._notes = directory, classes, split, [*notes]
        self._make_shown = shown
        self._records: list[dict[str, Any]] = directory.cut(last)
        self._models: list[Path] = []
        self._progress = Progress(rounds)
        self._tensorboard = TensorBoard(directory.tensorboard, cars, self._records)

    @cached_property
    def _shown(self) -> Shown:
        return self._make_shown()

    def write(self, record: dict[str, Any], step_losses: dict[int, list[float]]) -> None:
        """Keep a round: in metrics.jsonl first, which is what counts."""
        self.directory.append(record)
        self._records.append(record)
        self._tensorboard.log_round(record, step_losses)
        self._progress.round(record)

    def warn(self, text: str) -> None:
        """Tell of a trouble at once, and in the summary."""
        self._progress.say(f"WARNING: {text}")
        self._notes.append(f"Warning: {text}.")

    def show(self, round_number: int, predictions: np.ndarray) -> None:
        """Keep predictions (K, h, w) for the shown scenes."""
        _, images, labels = self._shown
        self._tensorboard.log_panel(round_number, panel(images, labels, predictions, self._classes))

    def save_model(self, name: str, weights: dict[str, Tensor], metadata: dict[str, str]) -> None:
        """Keep a model's weights, loadable without running code."""
        path = self.directory.checkpoints / f"{name}.safetensors"
        save_weights(weights, path, metadata)
        self._models.append(path)

    def finish(self, predictions: np.ndarray, baselines: dict[str, float]) -> None:
        """Draw the report's figures and print the closing table.

        predictions: (K, h, w) for the shown scenes; baselines: name -> mIoU of a trivial answer.
        """
        # Here, because matplotlib takes long to import and nothing before needs it.
        from fedsim.record.figures import draw_loss, draw_miou, draw_segmentation
        from fedsim.record.summary import print_summary, write_summary

        self._progress.close()
        self._tensorboard.close()
        report = self.directory.report
        draw_loss(self._records, report / "loss.png")
        draw_miou(self._records, report / "miou.png", baselines)
        names, images, labels = self._shown
        draw_segmentation(images, labels, predictions, self._classes, report / "segmentation.png", names)
        written = [self.directory.metrics, self.directory.tensorboard, *self._models, report / "loss.png",
                   report / "miou.png", report / "segmentation.png", report / "summary.md"]
        about: dict[str, Any] = {"split": self._split, "notes": self._notes}
        write_summary(self._records, self._classes, baselines, written, path=report / "summary.md", **about)
        print_summary(self._records, self._classes, baselines, written, **about)

    def close(self) -> None:
        """Leave terminal and event files in order, whatever ended the run."""
        self._progress.close()
        with suppress(OSError):  # a full disk has been told of already
            self._tensorboard.close()
