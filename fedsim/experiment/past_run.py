"""A run of the past: its directory, its settings, and whether it has ended."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fedsim.data.partition import PARTITIONS, SPLIT_FILE
from fedsim.data.partition.dealt import Dealt
from fedsim.data.partition.split_file import read_cars
from fedsim.distributed.world import World
from fedsim.errors import OutputError
from fedsim.experiment.dealing import deal, source_of
from fedsim.record.overview import Overview
from fedsim.record.run_directory import START_FILE, RunDirectory
from fedsim.settings.fields import Settings, read_settings
from fedsim.system.console import LOG


@dataclass(frozen=True)
class PastRun:
    """A run's directory and what it was run with."""

    directory: RunDirectory
    settings: Settings

    @classmethod
    def open(cls, path: Path) -> "PastRun":
        """Open the run in `path`. Raises UserError if it holds no run, or settings that this program does not know."""
        config = path / "config.toml"
        try:
            values = read_settings(config)
        except OSError as error:
            raise OutputError(f"{path} is not a run directory: {config.name} cannot be read ({error.strerror})"
                              ) from error
        except ValueError as error:
            raise OutputError(f"{config} is not a TOML file ({error}); take the one that the run wrote") from error
        return cls(RunDirectory(path), Settings.from_values(values, origin=str(config)))

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.directory.path.resolve().name

    @property
    def settings_here(self) -> Settings:
        """The settings, with the run's own copies in place of files, which may have been moved or changed."""
        folder = self.directory.path.resolve()
        copies: dict[str, Any] = {}
        if self.settings.partition not in PARTITIONS:
            copies["partition"] = str(folder / SPLIT_FILE)
        if self.settings.init is not None:
            copies["init"] = str(folder / START_FILE)
        return replace(self.settings, **copies)

    def deal_again(self, world: World) -> Dealt:
        """Load the run's scenes, and read from its directory which car has which. Raises UserError."""
        split = self.directory.path / SPLIT_FILE
        cars = len(read_cars(split))
        settings = replace(self.settings, partition=str(split), own_test=None)  # the file says which are held out
        return deal(settings, source_of(settings, settings.cars or cars), cars, world, LOG)

    def has_ended(self) -> bool:
        """Return whether all rounds are played and the run's models are written."""
        if not Overview.of(self.directory.path).has_ended:
            return False
        try:
            return len(self.directory.weights()) in (1, self.settings.cars)
        except OutputError:
            return False
