"""The view of pictures that settings ask for when a network is scored."""

from collections.abc import Mapping
from typing import Any

from fedsim.errors import SettingsError
from fedsim.evaluation.views import Size, View
from fedsim.models import check_image_size
from fedsim.options import switch
from fedsim.settings.conversion import read_scales, read_size
from fedsim.settings.fields import Settings

NAMES = ("test_scales", "test_flip", "tile")  # the settings that say how pictures are shown for a score


def read_view(values: Mapping[str, Any]) -> View:
    """Return the view that settings ask for. Those that are missing have their defaults. Raises SettingsError."""
    scales, mirrored, tile = (values.get(name, getattr(Settings, name)) for name in NAMES)
    if not isinstance(mirrored, bool):
        raise SettingsError(f"{switch('test_flip', True)} is {mirrored!r}; expected true or false")
    return View(read_scales(scales), mirrored, read_size("tile", tile))


def check_view(view: View, model: str, size: Size) -> None:
    """Raise SettingsError if a network cannot see what a view shows of pictures of a size (width, height) in pixels."""
    check_image_size(model, size)
    for shown in view.sizes(size):
        try:
            check_image_size(model, shown)
        except SettingsError as error:
            raise SettingsError(f"--test-scales and --tile show {model} pictures of {shown[0]}x{shown[1]} pixels, "
                                "which are too small for it: take larger ones") from error
