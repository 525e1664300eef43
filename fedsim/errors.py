"""The errors a user can meet.

    FedsimError
    ├── UserError          a mistake of the user's, found before training: one sentence, exit status 2
    │   ├── SettingsError    an option, or options that contradict each other
    │   ├── DataError        a data set on disk
    │   ├── MachineError     devices, backends, ranks
    │   │   └── PlaceError     the variables that tell one rank its place
    │   └── OutputError      the run directory
    ├── RunError           a fault during a run that every rank knows of; names round, car and rank: status 1
    │   └── RankError        a fault that only one rank has noticed
    └── Stopped            not a fault: a signal asked the run to stop, and it can be continued: status 128 + signal

A message says what is wrong, where, and what to do. `assert` is only for mistakes in fedsim itself.
"""


class FedsimError(Exception):
    """The base class of all errors that fedsim tells its user in a sentence, without a traceback."""

    exit_status = 1


class UserError(FedsimError):
    """A mistake of the user's that is found before training starts."""

    exit_status = 2


class SettingsError(UserError):
    """An option whose value cannot work, or two options that contradict each other."""


class DataError(UserError):
    """A data set on disk that is missing, damaged or in another layout.

    kind: the kind of fault, as the plural that heads a list of such faults.
    """

    def __init__(self, message: str, kind: str = "other faults") -> None:
        super().__init__(message)
        self.kind = kind


class MachineError(UserError):
    """A device, backend or number of ranks that this machine does not offer."""


class PlaceError(MachineError):
    """A variable of the environment that does not tell a process its place among the ranks."""


class OutputError(UserError):
    """A directory or file that cannot be written, already exists, or is damaged."""


class RunError(FedsimError):
    """A fault during a run; the message names round, car and rank."""


class RankError(RunError):
    """A fault that only one rank has noticed, such as the loss of another rank."""


class Stopped(FedsimError):
    """The end of a run that a signal asked to stop; its state is in a checkpoint."""

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.exit_status = 128 + signal  # as a shell reports a program that a signal has ended
