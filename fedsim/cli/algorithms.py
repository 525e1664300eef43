"""fedsim algorithms: list the algorithms to choose from, as the code defines them."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import click
import torch
from torch import Tensor

from fedsim.aggregation import AGGREGATORS
from fedsim.algorithms import Local
from fedsim.cli.command import Command
from fedsim.experiment.algorithm_trial import check_algorithm
from fedsim.federation.bundles import to_tensors
from fedsim.options import Option, options_of
from fedsim.report.words import ABSENT
from fedsim.settings import registry


class AlgorithmRow(NamedTuple):
    """An algorithm in words, for the table of algorithms."""

    algo: str
    name: str
    paper: str
    weighting: str
    keeps: str  # vectors that a car keeps between rounds
    up: str  # vectors that a car sends in a round
    down: str  # vectors that a car receives in a round
    options: str  # with defaults


HEADER = AlgorithmRow("--algo", "name", "paper", "weights", "a car keeps", "up", "down", "options [default]")


@click.command(cls=Command)
@click.argument("own", nargs=-1, metavar="[MODULE:CLASS]...")
def algorithms(own: tuple[str, ...]) -> None:
    """List the algorithms: name, paper, what a car keeps, vectors up and down, options.

    Vectors are as long as the model has parameters. Algorithms of your own are listed too if you name them.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = 140
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title in HEADER:
        table.add_column(title, overflow="fold")
    for name in (*registry.NAMES, *own):
        table.add_row(*describe(name))
    console.print(table)
    for line in _further():
        console.print(line, soft_wrap=True)


def describe(name: str) -> AlgorithmRow:
    """Describe an algorithm. Raises SettingsError if it is unknown or wrong."""
    kind = registry.algorithm_class(name)
    algorithm, theta = kind(), torch.linspace(-1, 1, 16)
    if ":" in name:
        check_algorithm(algorithm, theta, name)
    shared = algorithm.begin_round(algorithm.init_shared(theta), 1.0)
    memory = algorithm.init_memory(theta)
    sent = algorithm.contribute(Local(theta, 1, 1, 1.0), *algorithm.receive(shared, memory, 1.0))[0]
    down = [value for field, value in shared._asdict().items() if field not in algorithm.server_only]
    server = registry.COMBINATIONS.get(name)
    paper = registry.server_class(server).paper if server else (vars(kind) if ":" in name else {"paper": kind.paper}
                                                                ).get("paper", ABSENT)
    together = algorithm.pooled or algorithm.personal
    return AlgorithmRow(name, registry.title_of(name), paper or ABSENT,
               ABSENT if together else algorithm.weighting, _vectors(memory),
               ABSENT if together else _vectors(tuple(to_tensors(sent))), ABSENT if together else _vectors(tuple(down)),
               ", ".join(_options(kind, server, algorithm.free_server_step)) or ABSENT)


def _vectors(values: Any) -> str:
    """Count vectors and numbers in words, such as "2" or "1 + 1 number"; "–" if there is nothing."""
    fields = values if isinstance(values, tuple) else (values,)
    vectors = sum(isinstance(value, Tensor) and value.ndim == 1 for value in fields)
    numbers = sum((isinstance(value, Tensor) and value.ndim == 0) or isinstance(value, int | float) for value in fields)
    words = [str(vectors)] if vectors else []
    words += [f"{numbers} number{'s' if numbers > 1 else ''}"] if numbers else []
    return " + ".join(words) or ABSENT


def _options(kind: type, server: str | None, free_server_step: bool) -> Iterator[str]:
    """Yield every option of an algorithm and of its server step, with its default."""
    yield from map(_with_default, options_of(kind).values())
    if free_server_step:
        if server is None:
            yield "--server-optimizer [none]"
        yield from map(_with_default, options_of(registry.server_class(server)).values())


def _with_default(option: Option) -> str:
    return f"{option.typed} [{option.shown_default}]"


def _further() -> Iterator[str]:
    """Yield what combines with algorithms."""
    servers = ", ".join(registry.COMBINATIONS.values())
    yield f"--server-optimizer {servers}: with every algorithm that has the option."
    for name, kind in AGGREGATORS.items():
        read = ", ".join(map(_with_default, options_of(kind).values()))
        yield f"--aggregator {name}{f': {read}' if read else ''}"
