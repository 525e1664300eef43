"""python -m fedsim: the same as the console script `fedsim`."""

from fedsim.system.allocator import keep_freed_memory
from fedsim.system.collector import put_off_collection
from fedsim.system.program import prepare_program


def main() -> None:
    """Run a command, prepared for signals from the first import on, with memory that is kept and quick imports."""
    prepare_program()
    put_off_collection()
    keep_freed_memory()
    from fedsim.cli import main as run_command  # imported late: it takes long enough to be interrupted

    run_command()


if __name__ == "__main__":
    main()
