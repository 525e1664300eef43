"""The console script `fedsim`: one module a command."""

import sys

import click

from fedsim.cli.algorithms import algorithms
from fedsim.errors import FedsimError

HELP = """Federated learning of driving-scene segmentation, simulated with torch.distributed.

Training itself: torchrun --nproc_per_node=4 -m fedsim.main --algo admm, or without ranks python -m fedsim.main."""


@click.group(help=HELP, invoke_without_command=True)
@click.pass_context
def commands(context: click.Context) -> None:
    """The commands there are; their help without one."""
    if context.invoked_subcommand is None:
        print(context.get_help())


commands.add_command(algorithms)


def main() -> None:
    """Run a command and exit: status 0, or 2 for a user's mistake, told in one sentence."""
    try:
        commands.main(prog_name="fedsim", standalone_mode=False)
    except click.ClickException as error:
        print(f"fedsim: {error.format_message()}", file=sys.stderr)
        sys.exit(2)
    except FedsimError as error:
        print(f"fedsim: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
