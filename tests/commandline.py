"""What a command line asks for, without running it."""

from collections.abc import Sequence

from fedsim.cli import options
from fedsim.settings.fields import Settings


def parse(arguments: Sequence[str]) -> Settings | None:
    asked = options.parse(arguments)
    return asked and asked.settings
