"""The start of a network from weights on disk: which of them fit, and where they go."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fedsim.errors import OutputError, SettingsError
from fedsim.models.card import ModelCard
from fedsim.models.outputs import inner
from fedsim.record.run_directory import find_weights
from fedsim.record.weights import read_weights, save_weights
from fedsim.report.words import name_some

NESTED = ("state_dict", "model_state_dict", "model_state", "model", "net")  # where files of training programs have them
WRAPPERS = ("module.", "_orig_mod.", "model.")  # what programs put before the names of a network's tensors
COUNT = "num_batches_tracked"  # of a BatchNorm layer: no weight
LEAST = 0.5  # share of the source's numbers, or of the network's, that must fit


@dataclass(frozen=True)
class Source:
    """Weights on disk."""

    path: Path  # the file
    state: Mapping[str, Tensor]
    classes: tuple[str, ...] | None  # of the model card; None for a file without one


@dataclass(frozen=True)
class Start:
    """The weights that a network takes over, and what was said about them."""

    taken: Mapping[str, Tensor]  # by the names of the network's own tensors, float32
    facts: dict[str, Any] = field(default_factory=dict)  # for environment.json

    @property
    def digest(self) -> str:
        """The SHA-256 of names, shapes and bytes of what is taken."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.taken.items()):
            digest.update(f"{name} {tuple(tensor.shape)} ".encode() + tensor.numpy().tobytes())
        return digest.hexdigest()

    def give(self, module: nn.Module) -> nn.Module:
        """Copy the weights into a network with fresh ones, and return the network."""
        own = inner(module).state_dict()
        with torch.no_grad():
            for name, tensor in self.taken.items():
                own[name].copy_(tensor)
        return module

    def save(self, path: Path) -> None:
        """Write what is taken into a file, so that a run needs its source no more."""
        save_weights(dict(self.taken), path, {})


def find_start(path: str, build: Callable[[int], nn.Module], classes: Sequence[str]) -> Start:
    """Return what a network takes over from a run or a file.

    build: makes the network with fresh weights for so many classes; classes: their names. Raises UserError if there are
    no weights, they cannot be read, or they are those of another network.
    """
    source = read_source(Path(path))
    network, wider = (inner(build(number)).state_dict() for number in (len(classes), len(classes) + 1))
    of_classes = {name for name, tensor in network.items() if tensor.shape != wider[name].shape}
    wanted = {name: tensor for name, tensor in network.items() if not name.endswith(COUNT)}
    given = {name: tensor for name, tensor in source.state.items() if not name.endswith(COUNT)}
    names = _match(wanted, given)
    if source.classes not in (None, tuple(classes)):  # the classifier means something else, whatever its shape
        names = {name: there for name, there in names.items() if name not in of_classes}
    _check_fit(source, names, {name: tensor for name, tensor in wanted.items() if name not in of_classes}, given)
    taken = {name: given[there].float().contiguous() for name, there in names.items()}
    if broken := next((name for name, tensor in taken.items() if not bool(tensor.isfinite().all())), None):
        raise OutputError(f"--init {path}: its {names[broken]} holds numbers that are not finite; take other weights")
    facts = {"source": str(source.path.resolve()), "taken": len(taken), "new": sorted(wanted.keys() - taken.keys()),
             "left_over": sorted(given.keys() - {*names.values()})}
    return Start(taken, facts)


def read_source(path: Path) -> Source:
    """Read the weights of a run's directory or of a file. No stored code is run. Raises OutputError."""
    try:
        path = find_weights(path)
    except OutputError as error:
        raise OutputError(f"--init: {error}") from error
    if path.suffix == ".safetensors":
        state, metadata = read_weights(path)
        return Source(path, state, _class_names(metadata, path))
    return Source(path, _read_state_dict(path), None)


def _class_names(metadata: Mapping[str, str], path: Path) -> tuple[str, ...] | None:
    return ModelCard.read(metadata, path).classes.names if "fedsim" in metadata else None


def _read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a state dictionary that torch.save has written. Raises OutputError."""
    try:
        read = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle's, zip's and torch's own
        raise OutputError(f"--init {path} cannot be read as a state dictionary ({type(error).__name__}); save "
                          "network.state_dict() with torch.save, not the network itself") from error
    while isinstance(read, dict) and (key := next((key for key in NESTED if isinstance(read.get(key), dict)), None)):
        read = read[key]
    found = {str(name): value for name, value in read.items() if isinstance(value, Tensor)} if isinstance(
        read, dict) else {}
    if not found:
        raise OutputError(f"--init {path} holds no tensors by name; save network.state_dict() with torch.save")
    return found


def _match(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> dict[str, str]:
    """Return name in the network -> name in the source, for all tensors that fit.

    The source may have more before its names than the network, such as "module.", or less: a backbone's own weights fit
    into the network's part "backbone". Of all such ways the one in which most numbers fit is taken.
    """
    ways = ({begin + name.removeprefix(prefix): name for name in given}
            for prefix in _prefixes(given) for begin in _beginnings(wanted))
    return max(({name: way[name] for name in wanted if name in way and given[way[name]].shape == wanted[name].shape}
                for way in ways), key=lambda names: sum(wanted[name].numel() for name in names))


def _prefixes(names: Mapping[str, Tensor]) -> Iterator[str]:
    """Yield what may be taken off the names of a source: nothing, or wrappers, one inside another."""
    prefix = ""
    while True:
        yield prefix
        more = next((one for one in WRAPPERS if all(name.startswith(prefix + one) for name in names)), None)
        if more is None:
            return
        prefix += more


def _beginnings(names: Mapping[str, Tensor]) -> Iterator[str]:
    """Yield what may be put before the names of a source: nothing, or the name of a part of the network."""
    yield ""
    yield from sorted({".".join(parts[:end]) + "." for name in names for parts in [name.split(".")]
                       for end in range(1, len(parts))})


def _check_fit(source: Source, names: Mapping[str, str], wanted: Mapping[str, Tensor],
               given: Mapping[str, Tensor]) -> None:
    """Raise OutputError if the weights are those of another network."""
    fits = sum(wanted[name].numel() for name in names if name in wanted)
    sizes = [sum(tensor.numel() for tensor in state.values()) for state in (wanted, given)]
    if not fits or fits < LEAST * min(sizes):
        others = [name for name in given if name not in names.values()]
        raise SettingsError(f"--init {source.path} holds the weights of another network: {len(others)} of its "
                            f"{len(given)} tensors do not fit ({name_some(others)}); the network has "
                            f"{name_some([*wanted])}")
