"""A page needs nothing else, and nothing in it is taken for markup."""

import base64
import re
from html.parser import HTMLParser

import pytest

from fedsim.report.page import Page, Picture, Section, write_page
from fedsim.report.tables import Table

PNG = b"\x89PNG\r\n\x1a\nno more than a head"
ODD = "<script>alert('&')</script>"


class Tags(HTMLParser):
    """The tags of a page with their attributes, and whether all are closed in order."""

    VOID = ("meta", "img")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def written(tmp_path):
    def call(*sections: Section, facts=(), title="A run") -> str:
        write_page(Page(title, "told in a line", facts, sections), tmp_path / "page.html")
        return (tmp_path / "page.html").read_text(encoding="utf-8")
    return call


def test_every_part_of_a_section_is_there(written):
    text = written(Section("Cars", text=["a paragraph"], warnings=["a warning"], commands=["fedsim list"],
                           tables=[Table("numbers", ["car", "loss"], [["00 a", "0.5"]])],
                           pictures=[Picture(PNG, "a caption", "what it shows")]), facts=[("mIoU", "0.4")])
    for part in ("A run", "told in a line", "mIoU", "0.4", "Cars", "a paragraph", "a warning", "fedsim list", "numbers",
                 "00 a", "a caption", "what it shows"):
        assert part in text, part
    assert Tags(text).open == []


def test_a_photograph_is_inside_the_page_and_a_drawing_is_part_of_it(written):
    """Catches a drawing as an image, whose words cannot be searched, and a picture that is left outside."""
    text = written(Section("Both", pictures=[Picture(PNG, "", ""), Picture("<svg><text>a word</text></svg>", "", "")]))
    assert f"data:image/png;base64,{base64.b64encode(PNG).decode()}" in text
    assert "<svg><text>a word</text></svg>" in text


def test_nothing_is_fetched(written):
    text = written(Section("One", pictures=[Picture(PNG, "", ""), Picture("<svg></svg>", "", "")]))
    tags = Tags(text).found
    addresses = [value for _, attributes in tags for name, value in attributes.items() if name in ("src", "href")]
    assert addresses and all(value.startswith(("#", "data:")) for value in addresses)
    assert not re.search(r"@import|url\(", text) and "script" not in {tag for tag, _ in tags}


def test_words_are_no_markup(written):
    """Catches a page without autoescape: names come from folders and split files."""
    text = written(Section(ODD, text=[ODD], warnings=[ODD], commands=[ODD], tables=[Table(ODD, [ODD], [[ODD]])],
                           pictures=[Picture(PNG, ODD, f'" onload="{ODD}')]), facts=[(ODD, ODD)], title=ODD)
    assert "<script" not in text
    assert "onload" not in {name for _, attributes in Tags(text).found for name in attributes}


def test_what_is_long_is_folded(written):
    assert "<details>" in written(Section("Long", folded=True)) and "<details>" not in written(Section("Short"))
