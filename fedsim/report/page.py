"""A report as one HTML file, with style, figures and pictures inside it."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from fedsim.report.tables import Table


@dataclass(frozen=True)
class Picture:
    """A figure or a photograph."""

    content: str | bytes  # an <svg> element, as `fedsim.report.figures.to_svg` makes it, or the bytes of a PNG or JPEG
    caption: str
    alternative: str  # says what it shows to people who cannot see it

    @property
    def is_drawing(self) -> bool:
        """True for an <svg> element, which stands in the page itself, so that its words can be searched and copied."""
        return isinstance(self.content, str)

    @property
    def address(self) -> str:
        """The PNG or JPEG as a data: address."""
        assert isinstance(self.content, bytes)
        kind = "png" if self.content.startswith(b"\x89PNG") else "jpeg"
        return f"data:image/{kind};base64,{base64.b64encode(self.content).decode()}"


@dataclass(frozen=True)
class Section:
    """A heading and its contents, in this order: text, warnings, commands, tables, pictures."""

    title: str
    text: Sequence[str] = ()  # a paragraph each
    warnings: Sequence[str] = ()
    commands: Sequence[str] = ()  # lines to type
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    folded: bool = False  # opened by a click: for long contents that few people read


@dataclass(frozen=True)
class Page:
    """A report: a title, facts in large letters on top, and sections."""

    title: str
    subtitle: str
    facts: Sequence[tuple[str, str]] = ()  # name, value
    sections: Sequence[Section] = field(default_factory=list)


def write_page(page: Page, path: Path) -> None:
    """Write the page at `path`. Raises OSError."""
    # Here, because nothing before the end of a run needs it.
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files("fedsim").joinpath("report/page.html").read_text(encoding="utf-8"))
    Path(path).write_text(template.render(page=page) + "\n", encoding="utf-8", errors="replace")
