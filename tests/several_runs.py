"""Plays several command lines one after another in the same ranks: starting ranks takes longer than runs.

torchrun several_runs.py FILE, where FILE holds a JSON list of lists of arguments.
"""

import json
import os
import socket
import sys
import time
from pathlib import Path

from fedsim.main import main

jobs = Path(sys.argv[1])


def meeting_point(number: int) -> str:
    """A port for each run: torchrun's own store still knows the addresses of the run before."""
    file = jobs.with_suffix(f".port-{number}")
    if os.environ["RANK"] == "0":
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            beside = file.with_name(file.name + ".part")
            beside.write_text(str(free.getsockname()[1]))
        beside.rename(file)
    while not file.exists():
        time.sleep(0.01)
    return file.read_text()


os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "False"
for number, arguments in enumerate(json.loads(jobs.read_text())):
    os.environ["MASTER_PORT"] = meeting_point(number)
    status = main(arguments)
    if status:
        sys.exit(status)
