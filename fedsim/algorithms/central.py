"""Centralised training: the upper yardstick of a federation."""

from dataclasses import dataclass

from fedsim.algorithms.fedavg import FedAvg


@dataclass(frozen=True)
class Central(FedAvg):
    """FedAvg with a single car that holds every scene: one model, trained on the pool.

    A round takes as many steps as all cars of a federation together, one after another.
    """

    name = "central"
    title = "centralised"
    paper = "–"
    pooled = True
    free_server_step = False
