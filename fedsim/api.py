"""fedsim.run and fedsim.load, for scripts and notebooks: the code path of the command, in one process."""

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec

from torch import nn

from fedsim.distributed.devices import Place, choose_device
from fedsim.errors import FedsimError, OutputError, SettingsError
from fedsim.experiment.past_run import PastRun
from fedsim.experiment.run import run as whole_run
from fedsim.experiment.signals import put_handlers_back
from fedsim.inference.segmenter import Segmenter
from fedsim.own_code import NAMING, name_of
from fedsim.record.metrics_file import read_metrics
from fedsim.record.run_directory import RunDirectory
from fedsim.settings.fields import CHOICES, Settings, read_settings
from fedsim.system.console import enduring_output
from fedsim.system.launchers import follow_launchers
from fedsim.system.paths import read_path
from fedsim.system.process import keep_randomness, take_turn, use_defaults

__all__ = ["FedsimError", "Result", "Segmenter", "Settings", "load", "read_settings", "run"]

P = ParamSpec("P")


@dataclass(frozen=True)
class Result:
    """A run that has been played, read from its directory.

    directory: of the run; metrics: a record a round, the untrained model's first, with the keys of docs/records.md;
    trust: the network of your own, MODULE:NAME, that `models` may import.
    """

    directory: Path
    metrics: list[dict[str, Any]]
    trust: str = ""

    @classmethod
    def read(cls, directory: str | Path, trust: str = "") -> "Result":
        """Read what a run has recorded so far. Raises OutputError if the directory holds no run."""
        path = Path(read_path(directory, "the directory"))
        return cls(path, read_metrics(PastRun.open(path).directory.metrics), trust)

    @functools.cached_property
    def settings(self) -> Settings:
        """The settings of the run, with every default resolved."""
        return PastRun.open(self.directory).settings

    @property
    def miou(self) -> float:
        """The mIoU of the last scored round on the evaluated split.

        It is of the global model; if cars have models of their own, it is the mean over these.
        """
        scored = [record["global"]["miou"] for record in self.metrics if record["global"]]
        if not scored:
            raise OutputError(f"{self.directory} has no scored round yet; let the run go on")
        return float(scored[-1])

    @functools.cached_property
    def models(self) -> dict[str, nn.Module]:
        """The trained networks by name, on the CPU, in eval mode: "model" is the global one.

        If cars have models of their own, these have the names of the cars. They are read when they are first used.
        """
        return {path.stem: Segmenter.load(path, trust=[self.trust]).module
                for path in RunDirectory.open(self.directory).weights()}

    @property
    def model(self) -> nn.Module:
        """The global network, on the CPU, in eval mode. It takes standardised pictures: see `fedsim.load`.

        Raises KeyError if cars never communicate: then `models` has the model of each car.
        """
        return self.models["model"]

    @property
    def report(self) -> Path:
        """The run's page, with figures and tables."""
        return self.directory / "report" / "index.html"


def load(path: str | Path, device: str = "auto",
         trust: str | type[nn.Module] | Callable[..., nn.Module] | None = None,
         view: Mapping[str, Any] | None = None) -> Segmenter:
    """Load a trained model that segments pictures of any size.

    path: a run's directory, or a .safetensors file that a run has written. device: "auto", "cpu" or "cuda". trust: the
    network of your own that the model may import, as MODULE:NAME, or the class itself. view: `test_scales`, `test_flip`
    and `tile`, if pictures are to be seen otherwise than when the run was scored. Raises UserError if there is no
    model, the model is damaged, needs code that is not trusted or cannot see such a view, or there is no such device.
    """
    if device not in CHOICES["device"]:
        raise SettingsError(f"device is {device!r}; choose from {', '.join(CHOICES['device'])}")
    trusted = trust if isinstance(trust, str) or trust is None else name_of(trust)
    return Segmenter.load(Path(path), choose_device(Place(), device), () if trusted is None else (trusted,), view or {})


def _runs(make: Callable[P, Settings]) -> Callable[P, Result]:
    """Return `fedsim.run` as a function that takes the arguments of `make`, with their types."""
    known = inspect.signature(make).parameters

    def run(*args: P.args, **kwargs: P.kwargs) -> Result:
        """Train, as `python -m fedsim.main` does, and return the result.

        Every setting of the command line is an argument of the same name, such as algo="admm", cars=4, rounds=3;
        `fedsim.run(**fedsim.read_settings(path))` takes a preset. It prints what the command prints, or less after
        `logging.getLogger("fedsim").setLevel("WARNING")`. SIGINT and SIGTERM end the round under way and raise
        `fedsim.errors.Stopped`. An algorithm, a network or a loss of your own, as "MODULE:CLASS" or as the class
        itself, is imported: unlike the command, this trusts what a preset says.

        What the program has set for torch, numpy and Python, such as a default type, `torch.no_grad` or warnings that
        raise, changes no run. It holds again afterwards, like the states of all random generators. A process plays one
        run at a time: a call from another thread waits.

        Raises UserError before training for a mistake, RunError for a fault in the run.
        """
        if unknown := [name for name in kwargs if name not in known]:
            raise SettingsError(f"there is no setting {unknown[0]!r}; known are {', '.join(known)}")
        settings = make(*args, **kwargs)
        given = {name: getattr(settings, name) if name in NAMING else value for name, value in kwargs.items()
                 if value is not None}
        waits, gpus = Place.from_environment().size == 1, settings.device != "cpu"
        with (take_turn("fedsim.run", waits), use_defaults(), keep_randomness(gpus), enduring_output(),
              follow_launchers(), put_handlers_back()):
            return Result.read(whole_run(settings, given), trust=settings.model)

    run.__signature__ = inspect.signature(make)  # type: ignore[attr-defined]  # what help() shows
    return run


run = _runs(Settings)
