"""The direction of imports, and the size of modules, functions and lines.

Each test was seen to fail: with an import of fedsim.experiment.run in federation/rounds.py, of torch.distributed in
evaluation/evaluate.py, of numpy in algorithms/fedavg.py, of PIL at the top of data/cache.py, and with a line of 121
characters.
"""

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tree

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "fedsim"

# From top to bottom: a package, or a file beside them, imports only what stands on a lower line.
LAYERS = [
    ["__main__", "main"],
    ["cli"],
    ["api", "comparison"],
    ["experiment"],
    ["inference", "report"],
    ["settings", "record"],
    ["federation"],
    ["evaluation", "aggregation"],
    ["models", "data", "distributed", "losses"],
    ["algorithms", "system", "classes", "seeds", "own_code"],
    ["options", "errors", "version"],
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
FOR_ALGORITHMS = {"__future__", "collections", "dataclasses", "math", "typing", "torch", "fedsim.algorithms",
                  "fedsim.options"}
LATE = ["PIL", "google.protobuf", "matplotlib", "rich", "tensorboard", "torch._dynamo", "torchvision"]


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def place(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """(dotted name, line) of every import of a module, wherever it stands in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{place(path, node.lineno)} is a relative import"
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node.lineno


def home(path: Path) -> str:
    """The package, or the file beside the packages, that a module belongs to."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def dotted(path: Path) -> str:
    """The name that a module is imported by."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def starts_with(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")



def test_files_of_tests_have_names_of_their_own():
    """pytest refuses a second file of the same name, but only if both are collected in one run."""
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert len(set(names)) == len(names), sorted(name for name in names if names.count(name) > 1)


def test_every_module_has_a_place_in_the_layers():
    assert {home(path) for path in modules()} - {"__init__"} == set(LEVEL)


def test_a_package_imports_only_lower_ones():
    wrong = []
    for path in modules():
        for name, line in imports(path):
            own, parts = home(path), name.split(".")
            if parts[0] != "fedsim" or len(parts) < 2 or parts[1] == own:
                continue
            if own == "__init__":  # the public names alone
                wrong += [f"{place(path, line)} imports {parts[1]}"] if parts[1] not in ("api", "version") else []
            elif LEVEL[parts[1]] <= LEVEL[own]:
                wrong.append(f"{place(path, line)}: {own} imports {parts[1]}, which does not stand below it")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("package", sorted({home(path) for path in modules() if path.parent != PACKAGE}))
def test_the_files_of_a_package_form_no_circle(package):
    """Seen to fail with an import of federation.rounds in federation/car.py, late or at the top."""
    known = {dotted(path): path for path in modules() if home(path) == package}
    graph = {module: {name if name in known else name.rpartition(".")[0] for name, _ in imports(path)} & known.keys()
             for module, path in known.items()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_architecture_shows_the_tree_and_each_module_says_what_it_is_for():
    """`python tests/tree.py` writes it. Seen to fail with a module added, and with another first sentence."""
    assert tree.shown_tree() == tree.draw_tree()
    named = [name for names in tree.BANDS.values() for name in names]
    assert sorted(named) == sorted({home(path) for path in modules()})


def test_only_the_package_distributed_imports_torch_distributed():
    wrong = [place(path, line) for path in modules() for name, line in imports(path)
             if starts_with(name, "torch.distributed") and path.parent != PACKAGE / "distributed"]
    assert not wrong


def test_an_algorithm_imports_no_model_no_data_no_collective_and_no_settings():
    wrong = [f"{place(path, line)}: {name}" for path in modules() if home(path) == "algorithms"
             for name, line in imports(path)
             if not any(starts_with(name, allowed) for allowed in FOR_ALGORITHMS)]
    assert not wrong, "\n".join(wrong)


def test_modules_functions_and_lines_are_short():
    """350 lines, 50 lines, 120 characters: past that they have two reasons to change."""
    wrong = []
    for path in modules():
        text = path.read_text()
        lines = text.splitlines()
        if len(lines) > 350:
            wrong.append(f"{place(path, 1)} has {len(lines)} lines")
        wrong += [f"{place(path, number)} has {len(line)} characters" for number, line in enumerate(lines, 1)
                  if len(line) > 120]
        wrong += [f"{place(path, node.lineno)} {node.name} has {node.end_lineno - node.lineno + 1} lines"
                  for node in ast.walk(ast.parse(text))
                  if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno + 1 > 50]
    assert not wrong, "\n".join(wrong)


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    """What is imported in a process that imports fedsim.main."""
    done = subprocess.run([sys.executable, "-c", "import sys, fedsim.main; print(*sys.modules)"],
                          capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


@pytest.mark.parametrize("late", LATE)
def test_starting_up_imports_nothing_that_the_first_step_does_not_need(loaded, late):
    assert "fedsim.main" in loaded and late not in loaded
