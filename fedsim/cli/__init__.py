"""The console script `fedsim`: a module for each command, imported when it is needed."""

import importlib
import os
import sys

import click

from fedsim.cli.command import WIDE, in_a_sentence
from fedsim.errors import FedsimError
from fedsim.system.console import enduring_output, open_standard_streams
from fedsim.system.program import INTERRUPTED, raise_interrupts
from fedsim.version import __version__

HELP = """Federated learning of driving-scene segmentation, simulated with torch.distributed.

Begin with: fedsim run --algo admm"""

FUNCTIONS = {"list": "list_runs"}  # command -> function, if they cannot share a name: Python has a `list`


class Group(click.Group):
    """Commands by name, each with its help text or a group of its own. Showing the help imports no command."""

    def __init__(self, name: str, known: "dict[str, str | Group]", help: str) -> None:
        super().__init__(name, help=help, invoke_without_command=True, callback=_show_help, context_settings=WIDE)
        self._known = known

    def list_commands(self, context: click.Context) -> list[str]:
        return [*self._known]  # `list` is the module fedsim.cli.list once it is imported

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        known = self._known.get(name)
        if not isinstance(known, str):
            return known
        module = importlib.import_module(f"fedsim.cli.{name}")
        command: click.Command = getattr(module, FUNCTIONS.get(name, name))
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, known if isinstance(known, str) else known.get_short_help_str(limit=100))
                                for name, known in self._known.items()])


@click.pass_context
def _show_help(context: click.Context) -> None:
    """Print the help of a group that is called without a command."""
    if context.invoked_subcommand is None:
        print(context.get_help())


data = Group("data", {
    "fetch": "Download a data set, check it and unpack it.",
    "inspect": "Show what every car would have, before training.",
    "cache": "List the scenes that were read before, and clear them.",
}, help="Data sets: get them, see how their scenes are dealt to cars, and clear the cache of scenes.")

commands = Group("fedsim", {
    "run": "Train: starts the ranks and plays a federation, from settings to report.",
    "compare": "Train several algorithms with several seeds, and report on them side by side.",
    "evaluate": "Score trained models, clean and under driving perturbations.",
    "predict": "Segment pictures with a trained model.",
    "export": "Write a trained model as ONNX or as a PyTorch program, and check it.",
    "list": "List the runs of a folder.",
    "show": "Show what there is to know about a run.",
    "algorithms": "List the algorithms: paper, what a car keeps and sends, options.",
    "models": "List the networks: parameters, arithmetic, traffic, time for a picture.",
    "data": data,
}, help=HELP)
click.version_option(__version__, message="fedsim %(version)s")(commands)


PLAYED = (["run"], ["compare"])  # commands whose runs keep all that they print


def main() -> None:
    """Run a command. If it fails, exit with a status other than 0: 2 for a user's mistake, told in one sentence.

    A reader of stdout that has gone, as after `| head`, is no failure. A stdout that cannot be written is one, but the
    command has written its files; a run that has ended has not failed, because its directory has all that it prints.
    """
    # Set before torch is imported: idle OpenMP threads must sleep, because several runs may share the cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # a machine without a name is no warning
    os.environ["MPLBACKEND"] = "agg"  # no figure needs a display, and an unknown name ends the import of matplotlib
    open_standard_streams()
    with enduring_output() as (stdout, stderr):
        status = _status()
        stdout.finish()
        if stdout.error and not isinstance(stdout.error, BrokenPipeError):
            _say(f"stdout cannot be written ({stdout.describe_error()}), so a part of the output is lost")
            status = status or int(sys.argv[1:2] not in PLAYED)
        stderr.finish()
    if status:
        sys.exit(status)


def _status() -> int:
    """Run a command and return its exit status."""
    try:
        with raise_interrupts():
            return int(commands.main(prog_name="fedsim", standalone_mode=False) or 0)
    except click.ClickException as error:
        _say(in_a_sentence(error))
        return 2
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except FedsimError as error:
        _say(str(error))
        return error.exit_status
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's, which this module does not import
            raise
        _say("the GPU has no memory left; take a smaller --batch-size where there is one, or --device cpu")
        return 1
    except OSError as error:  # a full disk, say, while a report is written
        where = f" ({error.filename})" if error.filename else ""
        _say(f"{error.strerror or error}{where}; make room, or choose another place with --out")
        return 1


def _say(sentence: str) -> None:
    print(f"fedsim: {sentence}", file=sys.stderr)
