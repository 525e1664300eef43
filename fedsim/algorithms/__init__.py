"""The algorithms by name: one file a paper, no model, no data, no collective, no settings inside."""

from fedsim.algorithms.base import Algorithm, Local, Shared
from fedsim.algorithms.central import Central
from fedsim.algorithms.fedadmm import FedADMM
from fedsim.algorithms.fedadmm_balanced import BalancedFedADMM
from fedsim.algorithms.fedavg import FedAvg
from fedsim.algorithms.feddyn import FedDyn
from fedsim.algorithms.fednova import FedNova
from fedsim.algorithms.fedprox import FedProx
from fedsim.algorithms.local import LocalOnly
from fedsim.algorithms.scaffold import Scaffold

ALGORITHMS: dict[str, type[Algorithm]] = {
    "avg": FedAvg,
    "prox": FedProx,
    "admm": FedADMM,
    "scaffold": Scaffold,
    "dyn": FedDyn,
    "nova": FedNova,
    "central": Central,
    "local": LocalOnly,
}

__all__ = ["ALGORITHMS", "Algorithm", "BalancedFedADMM", "Central", "FedADMM", "FedAvg", "FedDyn", "FedNova", "FedProx",
           "Local", "LocalOnly", "Scaffold", "Shared"]
