"""Plays several command lines one after another in the same ranks: starting ranks takes longer than tiny runs.

python several_runs.py FILE, alone or under torchrun; FILE holds a JSON list of lists of arguments.
"""

import json
import os
import sys
from pathlib import Path

from fedsim.main import main

for number, arguments in enumerate(json.loads(Path(sys.argv[1]).read_text())):
    # As after a restart of torchrun's: the ranks meet at an address that no earlier run has used.
    os.environ["TORCHELASTIC_RESTART_COUNT"] = str(number)
    status = main(arguments)
    if status:
        sys.exit(status)
