"""The journal of a run: all that the coordinator writes during the run and at its end."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from fedsim.classes import ClassTable
from fedsim.data.partition import Scored
from fedsim.experiment.best import is_best, why_it_ends
from fedsim.federation.federation import Car
from fedsim.record.overview import Overview, list_of_texts
from fedsim.record.round_record import CarDetail
from fedsim.record.run_directory import RunDirectory
from fedsim.record.weights import save_weights
from fedsim.report.progress import Progress
from fedsim.report.scenes import Shown, panel
from fedsim.report.summary import Outcome, print_summary, write_summary
from fedsim.report.tensorboard import pages
from fedsim.report.tensorboard.board import TensorBoard
from fedsim.settings.fields import Settings
from fedsim.system.console import LOG, shows_progress

BEST = "best.safetensors"  # in the folder of checkpoints


class Journal:
    """The records of one run. Only the coordinator keeps one."""

    def __init__(self, directory: RunDirectory, classes: ClassTable, cars: Sequence[Car], settings: Mapping[str, Any],
                 *, last: int, notes: Sequence[str], pixels: np.ndarray, duals: bool,
                 shown: Callable[[], Shown]) -> None:
        """Open the journal of a new run, or of one that continues.

        last: the round that the run continues from, -1 for a new run; records of later rounds are removed. notes:
        sentences that a reader of the scores needs. pixels: (cars, C) labelled pixels of every car and class in
        training. duals: whether the algorithm has dual variables. shown: loads the scenes of the panels, when the first
        panel is made. Raises OutputError if metrics.jsonl cannot be written.
        """
        self.directory, self._classes, self._notes = directory, classes, notes
        self._scored = Scored(settings["eval_split"], settings.get("hold_out_drive"))
        self._settings = Settings.from_values(settings, origin="the settings of the run")
        self._cars, self._pixels, self._make_shown = cars, pixels, shown
        self._records: list[dict[str, Any]] = directory.cut(last)
        self._judge_end_again()
        self._models: list[Path] = []
        self._progress = Progress(settings["rounds"])
        self._tensorboard: TensorBoard | None = None
        with self._for_eyes_alone():
            board = TensorBoard(directory.tensorboard, [car.name for car in cars], self._records)
            self._tensorboard = board
            board.describe(pages.lay_out_charts(duals), pages.tabulate_partition(cars, classes, pixels))
            board.compare(pages.list_settings(str(directory.path), settings))

    @cached_property
    def _shown(self) -> Shown:
        return self._make_shown()

    def write(self, record: dict[str, Any], details: Mapping[int, CarDetail]) -> None:
        """Write the record of a round, to metrics.jsonl first: the other files can be made again from it."""
        why = why_it_ends([*self._records, record], self._settings)
        if why:
            record = record | {"ended": why}
        self.directory.append(record)
        self._records.append(record)
        with self._for_eyes_alone():
            if self._tensorboard:
                self._tensorboard.log_round(record, details)
        self._progress.show(record)
        if "warning" in record:
            LOG.warning("round %d: %s", record["round"], record["warning"])

    def why_ended(self) -> str | None:
        """Return why a score has ended the run before its last round; None if it has not."""
        return self._records[-1].get("ended") if self._records else None

    def is_best(self) -> bool:
        """Return whether the latest round has the highest mIoU so far."""
        return is_best(self._records)

    def keep_best(self, weights: dict[str, Tensor], metadata: dict[str, str]) -> None:
        """Write the model of the latest round as the best one, with the score that has chosen it."""
        last = self._records[-1]
        chosen = {"round": last["round"], "miou": last["global"]["miou"], "on": self._scored.name}
        save_weights(weights, self.directory.checkpoints / BEST, metadata | {"chosen": json.dumps(chosen)})

    def _judge_end_again(self) -> None:
        """Judge by the present settings whether the run has ended with its latest record: they may have changed."""
        if not self._records:
            return
        before, why = self._records[-1].get("ended"), why_it_ends(self._records, self._settings)
        if before != why:
            record = {key: value for key, value in self._records[-1].items() if key != "ended"}
            self._records[-1] = record | ({"ended": why} if why else {})
            self.directory.rewrite(self._records)

    def lacks_score(self) -> bool:
        """Return whether the latest round was recorded without a score."""
        return bool(self._records) and self._records[-1]["global"] is None

    def score_last(self, add_score: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Replace the latest record by what `add_score` makes of it."""
        self._records[-1] = add_score(self._records[-1])
        self.directory.rewrite(self._records)
        with self._for_eyes_alone():
            if self._tensorboard:
                self._tensorboard.log_score(self._records[-1])

    def show(self, round_number: int, predictions: list[np.ndarray]) -> None:
        """Write a panel of predictions, (h, w) uint8 for each shown scene."""
        with self._for_eyes_alone():
            if self._tensorboard:
                _, images, labels = self._shown
                self._tensorboard.log_panel(round_number, panel(images, labels, predictions, self._classes))

    def save_model(self, name: str, weights: dict[str, Tensor], metadata: dict[str, str]) -> None:
        """Write a model's weights to a file that is loaded without running code."""
        path = self.directory.checkpoints / f"{name}.safetensors"
        save_weights(weights, path, metadata)
        self._models.append(path)

    def end(self) -> None:
        """Write the summary of a run that has nothing left to play: whatever happens to its report, it has ended."""
        outcome = self._outcome({}, [f"Baselines, figures and page of this report have not been made: "
                                     f"`{Overview.of(self.directory.path).resume}` makes them."])
        written = [self.directory.metrics, self.directory.tensorboard, *self._weights(), self.directory.summary]
        write_summary(outcome, written, self.directory.summary)

    def finish(self, predictions: list[np.ndarray], baselines: dict[str, float]) -> None:
        """Write the report, and print the closing table.

        predictions: (h, w) uint8 for each shown scene; baselines: name -> mIoU of a trivial answer.
        """
        # Imported here because matplotlib takes long to import, and nothing before needs it.
        from fedsim.report.run import Curves, Partition, write_run_report
        from fedsim.report.run_figures import draw_loss, draw_miou, draw_segmentation

        self._progress.close()
        with self._for_eyes_alone():
            if self._tensorboard:
                self._tensorboard.describe(pages.draw_partition(self._cars, self._classes, self._pixels))
                self._tensorboard.compare(pages.mark_end())
                self._tensorboard.close()
        outcome = self._outcome(baselines, [])
        loss, miou, segmentation, page = (self.directory.report / name for name in (
            "loss.png", "miou.png", "segmentation.png", "index.html"))
        written = [self.directory.metrics, self.directory.tensorboard, *self._weights(), loss, miou, segmentation,
                   self.directory.summary, page]
        curves = Curves(draw_loss(self._records, loss), draw_miou(self._records, miou, baselines))
        names, images, labels = self._shown
        draw_segmentation(images, labels, predictions, self._classes, segmentation, names)
        write_run_report(outcome, Overview.of(self.directory.path), self._classes,
                         Partition([car.name for car in self._cars], self._pixels), curves, segmentation, written, page)
        write_summary(outcome, written, self.directory.summary)
        if shows_progress():
            print_summary(outcome, written)

    def _outcome(self, baselines: dict[str, float], notes: Sequence[str]) -> Outcome:
        environment = Overview.of(self.directory.path).environment
        return Outcome(self._records, self._classes.names, self._scored, baselines,
                       [*self._notes, *self._notes_on_choice(), *notes],
                       list_of_texts(environment, "warnings"))

    def _weights(self) -> list[Path]:
        """Return the files of weights that the run has written."""
        best = self.directory.checkpoints / BEST
        return [*self._models, *([best] if best.exists() else [])]

    def _notes_on_choice(self) -> Iterator[str]:
        """Yield sentences on a run that a score has ended, and on the model that a score has chosen."""
        if "ended" in self._records[-1]:
            yield (f"The run has ended after round {self._records[-1]['round']} of {self._settings.rounds}, because "
                   f"{self._records[-1]['ended']}.")
        if (self.directory.checkpoints / BEST).exists():
            best = max((record for record in self._records if record["global"]), key=lambda one: one["global"]["miou"])
            yield (f"checkpoints/{BEST} is the model of round {best['round']}, whose mIoU of "
                   f"{best['global']['miou']:.3f} on the {self._scored.name} is the highest of all rounds: chosen "
                   "there, it flatters.")

    def close(self) -> None:
        """Close the terminal's bar and the event files, whatever ended the run."""
        self._progress.close()
        self._close_tensorboard()

    def _close_tensorboard(self) -> None:
        if self._tensorboard:
            with suppress(OSError):  # a full disk has been reported already
                self._tensorboard.close()

    @contextmanager
    def _for_eyes_alone(self) -> Iterator[None]:
        """Go on without TensorBoard's files if they cannot be written: metrics.jsonl has all the numbers."""
        try:
            yield
        except OSError as error:
            self._close_tensorboard()
            self._tensorboard = None
            where = f" ({error.filename})" if error.filename else ""
            LOG.warning("the files of TensorBoard cannot be written: %s%s; the run goes on without them, and "
                        "metrics.jsonl has all the numbers", error.strerror or error, where)
