"""The algorithms by name, a file for each paper."""

from fedsim.algorithms.base import Algorithm, Local, Shared
from fedsim.algorithms.central import Central, CentralWide
from fedsim.algorithms.fedadmm import FedADMM
from fedsim.algorithms.fedadmm_balanced import BalancedFedADMM
from fedsim.algorithms.fedadmm_consensus import ConsensusFedADMM, PerCarFedADMM
from fedsim.algorithms.fedavg import FedAvg
from fedsim.algorithms.feddyn import FedDyn
from fedsim.algorithms.fednova import FedNova
from fedsim.algorithms.fedprox import FedProx
from fedsim.algorithms.local import LocalOnly
from fedsim.algorithms.scaffold import Scaffold
from fedsim.options import option


def _by_name(*algorithms: type[Algorithm]) -> dict[str, type[Algorithm]]:
    found = {algorithm.name: algorithm for algorithm in algorithms}
    assert len(found) == len(algorithms) and all("name" in vars(algorithm) for algorithm in algorithms), \
        "every algorithm has a name of its own"
    return found


# In the order of tables: federated algorithms, then the yardsticks.
ALGORITHMS = _by_name(FedAvg, FedProx, FedADMM, Scaffold, FedDyn, FedNova, LocalOnly, Central, CentralWide)
# A variant takes the place of its algorithm if only its options take the values that are given: --rho balanced, say.
VARIANTS: dict[type[Algorithm], tuple[type[Algorithm], ...]] = {
    FedADMM: (BalancedFedADMM, ConsensusFedADMM, PerCarFedADMM)}

__all__ = ["ALGORITHMS", "VARIANTS", "Algorithm", "BalancedFedADMM", "Central", "CentralWide", "ConsensusFedADMM",
           "FedADMM", "FedAvg", "FedDyn", "FedNova", "FedProx", "Local", "LocalOnly", "PerCarFedADMM", "Scaffold",
           "Shared", "option"]
