"""Models by name."""

import subprocess
import sys

import pytest
import torch

from fedsim.errors import SettingsError
from fedsim.models import MODELS, build_model


def test_torchvisions_models_return_plain_logits():
    """Catches the dictionary of torchvision handed through, and a head left at 21 classes."""
    model = build_model("torchvision:lraspp_mobilenet_v3_large", 11, None)
    assert model(torch.randn(2, 3, 45, 60)).shape == (2, 11, 45, 60)


def test_an_unknown_model_is_answered_with_the_names_there_are():
    with pytest.raises(SettingsError, match=r"'segnt-basic' \(did you mean segnet-basic\?\)") as error:
        build_model("segnt-basic", 11, None)
    assert all(name in str(error.value) for name in (*MODELS, "torchvision:"))


def test_an_unknown_model_of_torchvision_is_answered_with_the_names_there_are():
    with pytest.raises(SettingsError, match=r"'resnet18'.*lraspp_mobilenet_v3_large"):
        build_model("torchvision:resnet18", 11, None)


def test_a_width_is_refused_where_it_means_nothing():
    with pytest.raises(SettingsError, match="--width"):
        build_model("torchvision:lraspp_mobilenet_v3_large", 11, 16)
    with pytest.raises(SettingsError, match="--width is 0"):
        build_model("segnet-small", 11, 0)


def test_torchvision_is_imported_only_when_asked_for():
    """Catches an import at the top of the module, paid by every rank at every start."""
    program = ("import sys; from fedsim.models import build_model; build_model('segnet-small', 11, None); "
               "sys.exit('torchvision' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
