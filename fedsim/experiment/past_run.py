"""A run that has ended: its settings and its models, read back from its directory."""

from dataclasses import dataclass
from pathlib import Path

import torch

from fedsim.data.scene_set import Source
from fedsim.errors import OutputError
from fedsim.experiment.assembly import make_module
from fedsim.models.flat import FlatModel
from fedsim.record.overview import Overview
from fedsim.record.run_directory import RunDirectory
from fedsim.record.weights import load_weights
from fedsim.settings.fields import Settings, read_settings


@dataclass(frozen=True)
class PastRun:
    """A run's directory and what it was run with."""

    directory: RunDirectory
    settings: Settings

    @classmethod
    def open(cls, path: Path) -> "PastRun":
        """Raises UserError where `path` holds no run, or one of other settings than this program knows."""
        config = path / "config.toml"
        try:
            values = read_settings(config)
        except OSError as error:
            raise OutputError(f"{path} is no run directory: {config.name} cannot be read ({error.strerror})") from error
        except ValueError as error:
            raise OutputError(f"{config} is not a TOML file ({error}); take the one that the run wrote") from error
        return cls(RunDirectory(path), Settings.from_values(values, origin=str(config)))

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.directory.path.resolve().name

    def has_ended(self) -> bool:
        """Whether there is nothing left to play, and its models are there."""
        if not Overview.of(self.directory.path).has_ended:
            return False
        try:
            return len(self.directory.weights()) in (1, self.settings.cars)
        except OutputError:
            return False

    def models(self, source: Source, device: torch.device) -> list[FlatModel]:
        """The models of these files. Raises UserError where there are none, or they are damaged."""
        return [self._model(path, source, device) for path in self.directory.weights()]

    def _model(self, path: Path, source: Source, device: torch.device) -> FlatModel:
        size = self.settings.input_size() or source.image_size
        module = make_module(self.settings, len(source.classes), size)
        load_weights(path, module)
        return FlatModel(module, device)
