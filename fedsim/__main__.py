"""python -m fedsim: the same as the console script `fedsim`."""

from fedsim.system.program import prepare_program


def main() -> None:
    """Run a command, prepared for signals from the first import on."""
    prepare_program()
    from fedsim.cli import main as run_command  # imported late: it takes long enough to be interrupted

    run_command()


if __name__ == "__main__":
    main()
