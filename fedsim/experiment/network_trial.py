"""A trial of a network before training: whether the federation knows of all that a car changes in it.

Cars use one copy of the network in turn. What a car changes must be the car's or the federation's: a parameter that is
trained, or a running statistic, which `--batchnorm` governs. Anything else would travel from car to car on a rank, and
the result would depend on the number of ranks.

The trial sees all registered parameters and buffers. Tensors, counters and generators that are plain attributes are
seen if they change what the network computes from one step to the next.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsim.errors import SettingsError
from fedsim.experiment.blame import blame_setting
from fedsim.experiment.watched import is_same
from fedsim.federation.batchnorm import use_batch_statistics
from fedsim.models.flat import FlatModel, constants, norm_layers
from fedsim.models.outputs import OneForm, Outputs, upsample
from fedsim.own_code import is_own
from fedsim.record.weights import weights_of
from fedsim.seeds import seed_torch

BATCH = 2  # scenes
DRAWS = 8  # of the layers that a network leaves out by chance
LIBRARIES = ("fedsim", "torch", "torchvision")
REMEDY = ("cars take turns with the network, so what one car changes would reach the next: of all that is registered, "
          "only trainable parameters and running statistics of BatchNorm and InstanceNorm layers may change")
Alike = Callable[[Tensor, Tensor], bool]


def check_network(name: str, build: Callable[[], nn.Module], classes: int, image_size: tuple[int, int],
                  device: torch.device, recalibrates: bool = True, aux_weight: float | None = None) -> nn.Module:
    """Build a network, try a copy of it, and return the network itself, untrained and on the CPU.

    name: the value of --model. build: makes the network with the weights of round 0. image_size: (width, height) in
    pixels of its pictures. recalibrates: whether running statistics are measured anew. aux_weight: of the loss of
    auxiliary logits, if the user has given it. Raises SettingsError if the network cannot be trained in a federation;
    the message names the tensor.
    """
    with blame_setting(f"--model {name}"):
        module = build()
        wrong = next(_faults(module), None)
        if not wrong and (aux_weight is not None or is_own(name) or not is_known(module)):
            wrong = _compare(module, twin := build()) or try_network(twin, classes, image_size, device,
                                                                     recalibrates, aux_weight)
    if wrong:
        raise SettingsError(f"--model {name}: {wrong.replace(f'its {OneForm.INSIDE}.', 'its ')}")
    return module


def is_known(module: nn.Module) -> bool:
    """Return whether a network is one of fedsim's, made of layers whose tensors are all known."""
    return type(module).__module__.startswith("fedsim.") and not any(constants(module)) and all(
        type(layer).__module__.partition(".")[0] in LIBRARIES and "forward" not in vars(layer)
        and not layer._forward_hooks and not layer._forward_pre_hooks for layer in module.modules())


def _faults(module: object) -> Iterator[str]:
    """Yield in words what is wrong with a network or its tensors, before it computes anything."""
    if not isinstance(module, nn.Module):
        yield f"it makes no network but {type(module).__name__}"
        return
    for name, layer in module.named_modules():
        if isinstance(layer, nn.SyncBatchNorm):
            yield (f"its layer {name or 'itself'} is a SyncBatchNorm, which mixes the pictures of all ranks, and ranks "
                   "play different cars: take BatchNorm2d")
    parameters = dict(module.named_parameters())
    tensors = parameters | dict(module.named_buffers())
    for name, tensor in tensors.items():
        if nn.parameter.is_lazy(tensor):
            yield (f"its {name} has no shape before the network has computed something: give the lazy layer its "
                   "numbers of channels, or let the network compute something when it is made")
            return
        if tensor.is_meta:
            yield f"its {name} is on the meta device and has no numbers: make it on the CPU"
    trained = {name: p for name, p in parameters.items() if p.requires_grad}
    if not trained:
        yield "it has no parameter that can be trained (requires_grad is False for all of them)"
    statistics = {f"{name}.{key}".lstrip("."): getattr(layer, key) for name, layer in module.named_modules()
                  if layer in set(norm_layers(module)) for key in ("running_mean", "running_var")}
    for name, tensor in (trained | statistics).items():
        if tensor.dtype != torch.float32 or tensor.layout is not torch.strided:
            yield (f"its {name} is {_type(tensor)}; what is trained or pooled must be a dense tensor of float32: call "
                   ".float() on the network")
    yield from _shared_memory(trained | statistics, tensors)
    yield from _unfit_for_files(module, trained | statistics)


def _shared_memory(moved: dict[str, Tensor], tensors: dict[str, Tensor]) -> Iterator[str]:
    """Yield the tensors that would lose their connection once those in `moved` lie in one vector."""
    places: dict[int, str] = {}
    for name, tensor in sorted((moved | tensors).items(), key=lambda item: item[0] not in moved):
        memory = tensor.untyped_storage().data_ptr()
        if memory in places and places[memory] in moved and tensor.numel():
            yield (f"its {name} shares the memory of {places[memory]}, and would not follow it in training: let both "
                   "layers have the same nn.Parameter, or make a copy of it")
        places.setdefault(memory, name)


def _unfit_for_files(module: nn.Module, moved: dict[str, Tensor]) -> Iterator[str]:
    """Yield in words which tensors a file of weights cannot hold."""
    for name, value in weights_of(module).items():
        if not isinstance(value, Tensor):
            yield f"its {name} is no tensor, and a file of weights holds nothing else: leave out get_extra_state"
        elif name not in moved and not bool(value.isfinite().all()):
            yield (f"its {name} holds numbers that are not finite, which a file of weights may not: register it with "
                   "persistent=False")


def _compare(module: nn.Module, twin: nn.Module) -> str | None:
    """Say how two networks differ that were built from the same seed."""
    ours, theirs = ({**dict(one.named_parameters()), **dict(one.named_buffers())} for one in (module, twin))
    for name in ours | theirs:
        if name not in ours or name not in theirs or not is_same(ours[name], theirs[name]):
            return (f"its {name} is another one each time that the network is made: draw random numbers from torch's "
                    "own generator, which is seeded before")
    return None


def try_network(module: nn.Module, classes: int, image_size: tuple[int, int], device: torch.device,
                recalibrates: bool = True, aux_weight: float | None = None) -> str | None:
    """Train and score a network for a moment, and say what is wrong with it, or None. This changes it.

    classes: the number of channels that it must return; image_size: (width, height) in pixels of its pictures;
    aux_weight: of the loss of auxiliary logits, if the user has given it.
    """
    trial = _Trial(FlatModel(module, device), classes, image_size, aux_weight)
    return next(itertools.chain(trial.train(), trial.measure() if recalibrates else (), trial.score()), None)


class _Trial:
    """A network in trial, with two pictures and two labels."""

    def __init__(self, model: FlatModel, classes: int, image_size: tuple[int, int], aux_weight: float | None) -> None:
        self.model, self.classes, self.aux_weight = model, classes, aux_weight
        width, height = image_size
        draw = torch.Generator().manual_seed(1)
        pictures = torch.randn(BATCH, 3, height, width, generator=draw)
        labels = torch.randint(0, classes, (BATCH, height, width), generator=draw)
        self.pictures = pictures.contiguous(memory_format=torch.channels_last).to(model.device)
        self.labels = labels.to(model.device)
        self.start = model.parameters.clone(), model.copy_norms()
        self.places = {name: _places(parameter) for name, parameter in model.module.named_parameters()}
        self.known = {*self.places, *dict(model.module.named_buffers())}
        # On a GPU, sums of the same numbers can differ in their last bits.
        self.is_alike: Alike = is_same if model.device.type == "cpu" else lambda one, other: torch.allclose(
            one, other, rtol=1e-2, atol=1e-4, equal_nan=True)

    def train(self) -> Iterator[str]:
        """Take the same step twice, from the same parameters and statistics."""
        results = []
        self.model.module.train()
        for _ in range(2):
            logits, auxiliary = self._step()
            if wrong := self._what_is_wrong(logits) or self._what_is_wrong_beside(auxiliary):
                yield wrong
                return
            loss = sum((F.cross_entropy(upsample(one, self.labels.shape[1:]), self.labels) for one in auxiliary),
                       F.cross_entropy(logits, self.labels))
            loss.backward()
            yield from self._changed("a training step")
            results.append((logits.detach(), self.model.gradient.clone(), self.model.statistics.clone()))
        yield from self._out_of_reach()
        if not all(self.is_alike(one, other) for one, other in zip(*results, strict=True)):
            yield ("it computes something else when the same step is taken again: it keeps something between steps "
                   "that is no registered tensor, or draws random numbers that are not from torch's own generator")

    def measure(self) -> Iterator[str]:
        """Measure running statistics from two different beginnings, as `--batchnorm recalibrate` does."""
        if not self.model.norms:
            return
        before = self.start[1].statistics
        frozen = self.model.statistics == before  # such as those of a layer that stays in eval mode
        found = []
        with use_batch_statistics(self.model), torch.no_grad():
            for beginning in (0.5, 1.0):
                self.model.statistics.copy_(before.where(frozen, beginning))
                seed_torch(1, "trial")
                self.model.module(self.pictures)
                found.append(self.model.statistics.clone())
        if not self.is_alike(*found):
            yield (f"the running statistics of its layer {self._first_difference(*found)} do not follow the layer's "
                   "momentum, so they cannot be measured anew: take --batchnorm pooled without --average-weights, or a "
                   "layer that computes them as BatchNorm2d does")

    def score(self) -> Iterator[str]:
        """Compute twice as in an evaluation, in which nothing may change or be drawn."""
        self.model.module.eval()
        self.model.parameters.copy_(self.start[0])
        self.model.load_norms(self.start[1])
        with torch.no_grad():
            results = [self.model.module(self.pictures).clone() for _ in range(2)]
        if wrong := self._what_is_wrong(results[0]):
            yield f"{wrong} in eval mode"
        yield from self._changed("an evaluation")
        if not (is_same(self.start[0], self.model.parameters) and self.is_alike(*results)
                and is_same(self.start[1].statistics, self.model.statistics)):
            yield ("in eval mode it changes itself or draws random numbers, so a score would depend on the scores "
                   "before it: do so only if self.training is true")

    def _out_of_reach(self) -> Iterator[str]:
        """Yield the name of a parameter that no loss depends on. A layer may be left out by chance, but not always."""
        trained = {name: p for name, p in self.model.module.named_parameters() if p.requires_grad}
        unreached = {*trained}
        for seed in range(DRAWS):
            if not unreached:
                return
            logits, auxiliary = self._step(seed)
            total = sum((one.sum() for one in auxiliary), logits.sum())
            gradients = torch.autograd.grad(total, [*trained.values()], allow_unused=True)
            unreached -= {name for name, gradient in zip(trained, gradients, strict=True) if gradient is not None}
        if unreached:
            name = next(name for name in trained if name in unreached)
            yield (f"no loss depends on its {name}, so that it would never be trained: let what the network returns "
                   "depend on it, or freeze it (requires_grad_(False))")

    def _step(self, seed: int = 1) -> Outputs:
        model = self.model
        model.parameters.copy_(self.start[0])
        model.load_norms(self.start[1])
        model.gradient.zero_()
        seed_torch(seed, "trial")
        returned = model.module(self.pictures)
        return returned if isinstance(returned, Outputs) else Outputs(returned)

    def _what_is_wrong(self, logits: object) -> str | None:
        wanted = (BATCH, self.classes, *self.pictures.shape[2:])
        if not isinstance(logits, Tensor):
            return (f"it returns {type(logits).__name__}; it must return logits (B, classes, H, W), a tuple that "
                    'begins with them, or a dictionary with "out"')
        if tuple(logits.shape) != wanted or logits.dtype != torch.float32:
            return (f"it returns {tuple(logits.shape)} {_type(logits)} for pictures {tuple(self.pictures.shape)}; "
                    f"logits (B, classes, H, W) are {wanted} float32")
        if not bool(logits.isfinite().all()):
            return "it returns numbers that are not finite"
        if self.model.module.training and not logits.requires_grad:
            return "what it returns does not depend on its parameters, so it cannot be trained"
        return None

    def _what_is_wrong_beside(self, auxiliary: Sequence[object]) -> str | None:
        if self.aux_weight is not None and not auxiliary:
            return f"--aux-weight is {self.aux_weight}, but it returns no auxiliary logits in training: leave it out"
        for place, one in enumerate(auxiliary, start=1):
            if not (isinstance(one, Tensor) and one.ndim == 4 and one.shape[:2] == (BATCH, self.classes)
                    and one.dtype == torch.float32 and bool(one.isfinite().all())):
                what = f"{tuple(one.shape)} {_type(one)}" if isinstance(one, Tensor) else type(one).__name__
                return (f"beside its logits it returns {what} in training, as output {place}; auxiliary logits are "
                        f"{(BATCH, self.classes)} and a height and a width, finite float32")
        return None

    def _changed(self, when: str) -> Iterator[str]:
        """Yield the names of tensors that something has changed or exchanged that it may not."""
        for name, _ in itertools.chain(self.model.module.named_parameters(), self.model.module.named_buffers()):
            if name not in self.known:
                yield f"its {name} appears only when the network computes something: register it when it is made"
        for constant in self.model.constants:
            if not constant.is_unchanged():
                yield f"its {constant.name} changes in {when}; {REMEDY}"
        for name, parameter in self.model.module.named_parameters():
            if _places(parameter) != self.places.get(name):
                yield f"it puts another tensor in the place of its {name} in {when}: write into it instead"

    def _first_difference(self, one: Tensor, other: Tensor) -> str:
        """Return the name of the first layer whose statistics differ."""
        first = int((one != other).any(0).nonzero()[0])
        layers = {id(layer): name for name, layer in self.model.module.named_modules()}
        ends = itertools.accumulate(layer.num_features for layer in self.model.norms)
        return next(layers[id(layer)] for layer, end in zip(self.model.norms, ends, strict=True) if first < end)


def _places(parameter: nn.Parameter) -> tuple[int, int]:
    """Return where a parameter and its gradient lie in memory."""
    return parameter.data_ptr(), parameter.grad.data_ptr() if parameter.grad is not None else 0


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
