"""What fedsim says while it works: the logger `fedsim`, which --quiet and --verbose set, and a program may set too.

Warnings are always said, under --quiet alone; with --verbose details are. Results, which were asked for, and errors are
not logged but printed.
"""

import logging

LOG = logging.getLogger("fedsim")
SILENT = logging.getLogger("fedsim-silent")  # for ranks that have nothing to say
SILENT.disabled = True


class _Printed(logging.Handler):
    """Prints on whatever stdout is at the moment: a progress bar stands in for it for a while."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), flush=True)


class _Words(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return f"WARNING: {text}" if record.levelno == logging.WARNING else text


def _prepare(log: logging.Logger) -> None:
    handler = _Printed()
    handler.setFormatter(_Words())
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False  # a notebook's root logger would say everything twice


_prepare(LOG)


def tells_progress() -> bool:
    """Whether progress is to be shown."""
    return LOG.isEnabledFor(logging.INFO)
