"""The errors a user can meet.

    FedsimError
    ├── UserError          a mistake that can be mended before training: one sentence, exit status 2
    │   ├── SettingsError    an option, or options that contradict each other
    │   ├── DataError        a data set on disk
    │   ├── MachineError     devices, backends, ranks
    │   └── OutputError      the run directory
    ├── RunError           a fault in a run under way, known to every rank; names round, car and rank: status 1
    │   └── RankError        a fault that one rank alone has noticed
    └── Stopped            no fault: a signal asked the run to stop, and it can be continued: status 128 + signal

A message says what is wrong, where, and what to do. `assert` is kept for what fedsim promises itself.
"""


class FedsimError(Exception):
    """Base of everything fedsim tells its user instead of showing a traceback."""

    exit_status = 1


class UserError(FedsimError):
    """A mistake of the user's, found before any training starts."""

    exit_status = 2


class SettingsError(UserError):
    """An option has a value that cannot work, or two options contradict each other."""


class DataError(UserError):
    """A data set on disk is missing, of another layout, or damaged."""


class MachineError(UserError):
    """Devices, backends or ranks do not allow what was asked for."""


class OutputError(UserError):
    """The run directory cannot be made, or already holds a run."""


class RunError(FedsimError):
    """A fault in a run under way; the message names round, car and rank."""


class RankError(RunError):
    """A fault that one rank alone has noticed, such as the loss of another."""


class Stopped(FedsimError):
    """A signal asked the run to stop; what it has done is in a checkpoint."""

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.exit_status = 128 + signal  # as a shell reports it
