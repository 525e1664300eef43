"""FedAvg, but one rank falls out while it trains a car in round 4: the trial before training has three.

FAULT_RANK says which, FAULT how: by a signal it sends itself, such as SIGSTOP, or by "exit".
"""

import os
import signal
import time
from typing import Any, NamedTuple

from fedsim.algorithms import FedAvg


class Counted(NamedTuple):
    theta: Any
    rounds: int


class Faulty(FedAvg):
    def init_shared(self, theta: Any) -> Counted:
        return Counted(theta, 0)

    def update(self, shared: Counted, mean: Any, participation: float) -> Counted:
        return Counted(mean, shared.rounds + 1)

    def start(self, shared: Counted, memory: Any) -> Any:
        if shared.rounds == 3 and os.environ["RANK"] == os.environ["FAULT_RANK"]:
            time.sleep(0.3)  # a car takes longer than a rank takes to say which it trains
            if os.environ["FAULT"] == "exit":
                os._exit(0)
            os.kill(os.getpid(), getattr(signal, os.environ["FAULT"]))
        return shared.theta
