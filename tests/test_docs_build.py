"""The pages are built without a warning, and what they link to within themselves is there."""

import contextlib
import io
import re
import shlex
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from fedsim.main import main

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> Path:
    """The folder of the built pages, made as launch/docs makes them."""
    pytest.importorskip("sphinx")
    folder = tmp_path_factory.mktemp("pages")
    verb = (ROOT / "launch" / "docs").read_text(encoding="utf-8")
    (_, *options, _), = [shlex.split(line) for line in verb.splitlines() if "sphinx-build" in line]
    done = subprocess.run([sys.executable, "-m", "sphinx", *options, str(folder)], cwd=ROOT, capture_output=True,
                          text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder


def test_pages_are_built_without_a_warning(pages):
    """Fails with a link to a page that is not there, a page in no table of contents, a formula that can't be read."""
    assert (pages / "docs" / "index.html").exists()


def test_links_within_the_pages_lead_somewhere(pages):
    """Fails where conf.py leads a link to a module's code to a page that Sphinx has not made."""
    for page in pages.rglob("*.html"):
        if page.is_relative_to(pages / "_static"):
            continue
        for target in re.findall(r'(?:href|src)="([^"#]+)', page.read_text(encoding="utf-8")):
            if not urlsplit(target).scheme:
                path = page.parent / unquote(urlsplit(target).path)
                assert path.exists(), f"{page.relative_to(pages)} links to {target}"


def test_the_reference_tells_shapes_and_settings(pages):
    """Fails where Sphinx no longer sees the comments on fields, and the help of settings, that conf.py shows it."""
    text = re.sub(r"<[^>]+>", "", (pages / "docs" / "api.html").read_text(encoding="utf-8"))
    assert "(d,) dual variable of the constraint w = theta" in text
    assert "Share of the cars that take part in a round" in text and "Weight of the proximal term" in text


def test_the_round_in_numbers_is_what_the_code_gives():
    """Fails where FedADMM's rule, or the page's table of it, has changed."""
    page = (ROOT / "docs" / "how-a-round-works.md").read_text(encoding="utf-8")
    code, = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    table, = re.findall(r"```text\n(.*?)```", page, re.DOTALL)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(code, {})
    assert printed.getvalue() == table


def answers() -> list[tuple[str, str]]:
    """What docs/faq.md tells people they type, and what it says the answer is, as far as it goes."""
    rows = re.findall(r"^\| `(--[^`]+)` \| `([^`]+)` \| ", (ROOT / "docs" / "faq.md").read_text(encoding="utf-8"),
                      re.MULTILINE)
    return [(typed, said.removesuffix("…")) for typed, said in rows]


@pytest.mark.parametrize(("typed", "said"), answers())
def test_what_is_said_of_settings_is_what_the_page_has(typed, said, capsys):
    """Fails where a message has changed and the page has not."""
    assert main(shlex.split(typed)) == 2
    assert said in capsys.readouterr().err
