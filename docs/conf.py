"""The configuration of Sphinx, which launch/docs builds the pages with.

The source folder is the whole repository. So a link from a page to another page, or to a file, is the same in the built
pages and in the Markdown itself.
"""

import dataclasses
import re
import sys
from pathlib import Path
from typing import Any

import torch
from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from pygments.lexers import TextLexer
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from sphinx.util import logging
from sphinx.util.osutil import relative_uri
from sphinx.writers.html5 import HTML5Translator

import fedsim
from fedsim.settings.fields import Settings

project, author, version = "fedsim", "the authors of fedsim", fedsim.__version__
root_doc = "docs/index"
include_patterns = ["*.md", "docs/*.md", "data/README.md"]
exclude_patterns = [".*", "benchmarks", "build", "fedsim", "*.egg-info", "launch", "runs", "tests"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
autodoc_default_options = {"members": True, "undoc-members": True, "member-order": "bysource"}
autodoc_typehints_format = "short"
toc_object_entries = False  # the contents list one heading a module; the search finds names
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100

smartquotes = False  # they would turn the -- of an option into a dash

html_theme = "furo"
html_title = f"fedsim {version}"
html_copy_source = False
html_show_copyright = False
html_math_renderer = "mathml"

_FIELD = re.compile(r"^(    \w+: [^#\n]+)# ", re.MULTILINE)
_BEFORE_FIELD = re.compile(r"^    # (?=.*\n(?:    # .*\n)*    \w+: )", re.MULTILINE)
_analyze = ModuleAnalyzer.analyze


def setup(app: Sphinx) -> None:
    """Register what this file adds to Sphinx, which calls it."""
    for name, module in list(sys.modules.items()):
        if name.startswith("fedsim.algorithms"):  # algorithms import torch for type checkers alone
            vars(module).setdefault("Tensor", torch.Tensor)
    app.add_lexer("csv", TextLexer)
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math, None))
    app.connect("autodoc-process-docstring", render_prose)
    app.connect("doctree-read", name_folders)
    app.connect("doctree-resolved", show_modules)
    ModuleAnalyzer.analyze = analyze_fields  # type: ignore[method-assign]


def analyze_fields(self: ModuleAnalyzer) -> None:
    """Take as a field's documentation the comment where it is defined, and the help of a setting or an option."""
    source = self.code
    self.code = _FIELD.sub(r"\1#: ", _BEFORE_FIELD.sub("    #: ", source))
    _analyze(self)
    self.code = source  # pages show the source as it is
    for kind in vars(sys.modules.get(self.modname, object())).values():
        if isinstance(kind, type) and kind.__module__ == self.modname and dataclasses.is_dataclass(kind):
            for field in dataclasses.fields(kind):
                if "help" in field.metadata:
                    self.attr_docs[kind.__qualname__, field.name] = [field.metadata["help"]]
    if self.modname == Settings.__module__:  # by theme, as `fedsim run --help` has them
        fields = dataclasses.fields(Settings)
        themes = list(dict.fromkeys(field.metadata["theme"] for field in fields))
        ordered = sorted(fields, key=lambda field: themes.index(field.metadata["theme"]))
        self.tagorder |= {f"Settings.{field.name}": place for place, field in enumerate(ordered)}


def render_prose(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Turn a docstring into reStructuredText: it is plain prose, in which indented lines are formulas."""
    rendered: list[str] = []
    formula = False
    for before, line in zip(["", *lines], lines, strict=False):
        if line.startswith("    ") and not formula and not before:
            rendered += ["::", ""]
        formula = line.startswith("    ") or (formula and not line)
        rendered.append(line if formula else as_rest(line))
    lines[:] = rendered


def as_rest(line: str) -> str:
    """Escape a line of prose, so that nothing but `code` has a meaning to Sphinx."""
    parts = re.split(r"`([^`]+)`", line)
    return "".join(f"``{part}``" if place % 2 else re.sub(r"([\\*|_])", r"\\\1", part)
                   for place, part in enumerate(parts))


def visit_math(writer: HTML5Translator, node: nodes.math | nodes.math_block) -> None:
    """Write a formula as MathML, which browsers show without a script or a network."""
    block = isinstance(node, nodes.math_block)
    try:
        formula = tex2mathml(node.astext(), as_block=block)
        writer.body.append(f'<div style="margin: 1em 0; overflow-x: auto">{formula}</div>' if block else formula)
    except MathError as error:
        logging.getLogger(__name__).warning("%s: %s", node.astext(), error, location=node)
    raise nodes.SkipNode


def name_folders(app: Sphinx, doctree: nodes.document) -> None:
    """Replace a link to a folder of the repository by its text, as a folder has no page."""
    for link in list(doctree.findall(addnodes.pending_xref)):
        if link["reftype"] == "myst" and Path(app.env.relfn2path(link["reftarget"])[1]).is_dir():
            link.replace_self(link.children)


def show_modules(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Lead a link to a module of the reference to the page of its code; links to other files stay downloads."""
    pages = getattr(app.env, "_viewcode_modules", {})
    for link in list(doctree.findall(addnodes.download_reference)):
        path = Path(app.env.relfn2path(link["reftarget"], page)[0])
        module = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
        if path.suffix == ".py" and pages.get(module):
            uri = relative_uri(app.builder.get_target_uri(page), f"_modules/{module.replace('.', '/')}.html")
            link.replace_self(nodes.reference("", "", *link.children, refuri=uri, internal=True))
