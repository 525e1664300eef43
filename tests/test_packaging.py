"""Wheel and sdist hold what an installed fedsim needs, and what its source needs to be tested."""

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BUILD = ("import sys; out = sys.argv[1]; from setuptools import build_meta as b; b.build_wheel(out), "
         "b.build_sdist(out), b.build_editable(f'{out}/editable')")


def kept(folder: str) -> set[str]:
    """The files of a folder that are no left-overs of running."""
    return {str(path.relative_to(ROOT)) for path in (ROOT / folder).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts}


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with wheel and sdist, built from a copy: building leaves files where it works.

    Beside them is editable/ with what `pip install -e` installs. The copy is in a folder fedsim, as a clone is.
    """
    source, out = tmp_path_factory.mktemp("above") / "fedsim", tmp_path_factory.mktemp("dist")
    for name in ("fedsim", "launch", "benchmarks", "docs", "tests"):
        for path in kept(name):
            (source / path).parent.mkdir(parents=True, exist_ok=True)
            (source / path).write_bytes((ROOT / path).read_bytes())
    (source / "data").mkdir()
    (out / "editable").mkdir()
    for path in (*ROOT.iterdir(), ROOT / "data" / "README.md"):  # data sets are not copied
        if path.is_file():
            (source / path.relative_to(ROOT)).write_bytes(path.read_bytes())
    subprocess.run([sys.executable, "-c", BUILD, str(out)], cwd=source, check=True, capture_output=True)
    return out


def test_the_wheel_holds_the_whole_package_and_runs_from_where_it_is_unpacked(built, tmp_path):
    """Catches package data that setup.cfg does not name: class tables, digests, the template of pages."""
    wheel, = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path)
    assert kept("fedsim") <= names and not any(name.startswith("tests") for name in names)
    script = ("import fedsim; from fedsim.cli import main; from fedsim.report.page import Page, write_page; "
              f"write_page(Page('a', 'b'), {str(tmp_path / 'page.html')!r}); print(fedsim.__file__)")
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": str(tmp_path)}, check=True)
    assert done.stdout.startswith(str(tmp_path))


def test_an_editable_install_is_found_from_the_folder_above_the_clone(built, tmp_path):
    """Catches a clone that Python takes for a package without files, because it is named fedsim too."""
    wheel, = (built / "editable").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    above = Path(next(tmp_path.glob("*.pth")).read_text().strip()).parent
    # Without `site`, the files .pth of this environment are not read: it may have fedsim installed in the same way.
    script = (f"import site, sys; site.addsitedir({str(tmp_path)!r}); "
              f"sys.path.append({sysconfig.get_path('purelib')!r}); import fedsim.cli.run; print(fedsim.__file__)")
    done = subprocess.run([sys.executable, "-S", "-c", script], cwd=above, capture_output=True, text=True,
                          env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"})
    assert done.stdout.startswith(str(above / "fedsim")), done.stderr


def test_the_distribution_and_its_extras_have_a_name_of_their_own(built):
    """Catches an extra that names `fedsim`: pip would install another project of the package index, over this one."""
    wheel, = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        named = {Path(name).name: name for name in archive.namelist() if ".dist-info/" in name}
        metadata, scripts = (archive.read(named[file]).decode() for file in ("METADATA", "entry_points.txt"))
    assert wheel.name.startswith("fedsim_driving-") and "\nName: fedsim-driving\n" in metadata
    required = re.findall(r"^Requires-Dist: ([\w.-]+)", metadata, re.MULTILINE)
    assert "fedsim-driving" in required and "fedsim" not in required
    assert "fedsim = fedsim.__main__:main" in scripts


def test_the_sdist_holds_what_its_tests_and_documentation_need(built):
    sdist, = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for folder in ("fedsim", "launch", "benchmarks", "docs", "tests"):
        assert kept(folder) <= names
    assert {"README.md", "LICENSE", "CHANGELOG.md", "ARCHITECTURE.md", "setup.cfg", "pyproject.toml",
            "data/README.md"} <= names
