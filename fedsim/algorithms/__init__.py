"""The algorithms by name: one file a paper, no model, no data, no collective, no settings inside."""

from fedsim.algorithms.base import Algorithm, Local, Shared
from fedsim.algorithms.central import Central
from fedsim.algorithms.fedadmm import FedADMM
from fedsim.algorithms.fedavg import FedAvg
from fedsim.algorithms.local import LocalOnly

ALGORITHMS: dict[str, type[Algorithm]] = {
    "avg": FedAvg,
    "admm": FedADMM,
    "central": Central,
    "local": LocalOnly,
}

__all__ = ["ALGORITHMS", "Algorithm", "Central", "FedADMM", "FedAvg", "Local", "LocalOnly", "Shared"]
