"""The networks by name: fedsim's, torchvision's segmentation models, and a user's own."""

import difflib
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import nn

from fedsim.errors import SettingsError
from fedsim.models.ddrnet import DDRNETS
from fedsim.models.fast_scnn import FAST_SCNNS
from fedsim.models.outputs import OneForm
from fedsim.models.own import check_arguments, make_own
from fedsim.models.segnet import SEGNETS
from fedsim.options import read_value
from fedsim.own_code import is_own


class Layout(Protocol):
    """The structure of a network of fedsim's."""

    def scaled(self, width: int) -> "Layout":
        """Return the same network with `width` channels after the first stage, and all others in proportion."""

    def check_image_size(self, image_size: tuple[int, int]) -> None:
        """Raise SettingsError if pictures of (width, height) pixels are too small."""

    def build(self, classes: int) -> nn.Module:
        """Build the network with fresh weights."""


LAYOUTS: Mapping[str, Layout] = {**SEGNETS, **DDRNETS, **FAST_SCNNS}
MODELS = tuple(LAYOUTS)
MOST_CHANNELS = 2**16  # of a first stage
NORMS = ("batch", "group")
MOST_GROUPS = 8  # groups of a group normalisation at most; they must divide the channels
TORCHVISION = "torchvision:"  # before the name of a model of torchvision.models.segmentation


def build_model(name: str, classes: int, width: int | None, norm: str = "batch",
                options: Mapping[str, Any] | None = None) -> nn.Module:
    """Build a network with fresh weights: images (B, 3, H, W) float32 -> logits (B, classes, H, W).

    In training it may return `Outputs`, with auxiliary logits. options: arguments of a network of torchvision or of a
    user's own.

    width: channels of the first stage, the others in proportion; None keeps the network's own. norm: "group" replaces
    BatchNorm by group normalisation (Wu & He 2018, arXiv:1803.08494), which has no statistics that cars would share.
    Weights are drawn as torch draws them. Raises SettingsError for an unknown name, an impossible width, or an option
    that the network does not have.
    """
    model = _build(name, classes, width, options or {})
    if norm == "group":
        _group_norms(model)
    return model


def _build(name: str, classes: int, width: int | None, options: Mapping[str, Any]) -> nn.Module:
    if width is not None and width < 1:
        raise SettingsError(f"--width is {width}; the first stage needs at least 1 channel")
    if ":" in name:
        if width is not None:
            raise SettingsError(f"--width has no meaning for {name}; leave it out or take one of {_names()}")
        return OneForm(make_own(name, classes, options) if is_own(name) else
                       _torchvision_model(name.removeprefix(TORCHVISION), classes, options))
    if name not in LAYOUTS:
        raise _unknown(name)
    if options:
        raise SettingsError(f"--model-option {next(iter(options))}: {name} has no such option; it has --width alone")
    layout = LAYOUTS[name]
    return (layout if width is None else layout.scaled(width)).build(classes)


def check_image_size(name: str, image_size: tuple[int, int]) -> None:
    """Raise SettingsError if pictures of (width, height) pixels are too small for the network."""
    if name in LAYOUTS:
        LAYOUTS[name].check_image_size(image_size)


def check_single_scene(name: str, model: nn.Module, image_size: tuple[int, int], car: str | None) -> None:
    """Raise SettingsError if the network cannot train on a single scene. BatchNorm cannot, if a layer is one pixel.

    model: a network that is not needed afterwards, because its running statistics change. car: the name of a car that
    has one scene in all; None if only the last batch of a car is so small.
    """
    width, height = image_size
    try:
        with torch.no_grad():
            model.train()(torch.zeros(1, 3, height, width))
    except Exception as error:  # BatchNorm's ValueError, or whatever a network of a user's own raises
        why, remedy = ("a car's last batch would have just one", "another --batch-size") if car is None else (
            f"car {car} has just one", "fewer cars or another --partition")
        raise SettingsError(f"{name} cannot train on a single scene, and {why}; choose {remedy}, or take --norm group"
                            ) from error


def _group_norms(module: nn.Module) -> None:
    """Replace every BatchNorm layer, found by its type, by group normalisation."""
    for name, layer in module.named_children():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            channels = layer.num_features
            groups = next(groups for groups in range(min(MOST_GROUPS, channels), 0, -1) if channels % groups == 0)
            setattr(module, name, nn.GroupNorm(groups, channels))
        else:
            _group_norms(layer)


def _torchvision_model(name: str, classes: int, options: Mapping[str, Any]) -> nn.Module:
    from torchvision import models  # late, because the import takes a second

    known = models.list_models(module=models.segmentation)
    if name not in known:
        raise SettingsError(f"torchvision has no segmentation model {name!r}; it has {', '.join(known)}")
    given = {key: read_value(value) for key, value in options.items()}
    check_arguments(models.get_model_builder(name), f"{TORCHVISION}{name}", given)
    return models.get_model(name, **{"weights": None, "weights_backbone": None, "num_classes": classes} | given)


def _unknown(name: str) -> SettingsError:
    near = difflib.get_close_matches(name, MODELS, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return SettingsError(f"--model is {name!r}{hint}; valid are {_names()}, {TORCHVISION}NAME, where NAME "
                         "is one of torchvision's segmentation models, and your own as mypackage.mymodule:MyNetwork")


def _names() -> str:
    return ", ".join(MODELS)
