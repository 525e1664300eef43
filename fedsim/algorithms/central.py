"""Centralised training, the upper yardstick of a federation, in small batches and in large ones."""

from dataclasses import dataclass

from fedsim.algorithms.fedavg import FedAvg


@dataclass(frozen=True)
class Central(FedAvg):
    """FedAvg with a single car that holds all scenes: one model, trained on the pool.

    A round takes as many steps, one after another, as all cars of a federation together.

    >>> from fedsim.algorithms import Local
    >>> algorithm = Central()
    >>> shared = algorithm.init_shared(0.0)
    >>> sent, memory = algorithm.contribute(Local(w=1.5, steps=20, images=40, step_length=2.0), shared, None)
    >>> algorithm.update(shared, sent, participation=1.0)  # theta is the model of the only car
    Shared(theta=1.5)
    """

    name = "central"
    title = "centralised"
    paper = "–"
    pooled = True
    free_server_step = False


@dataclass(frozen=True)
class CentralWide(Central):
    """Centralised training that takes no more steps, one after another, than a federation does.

    A round takes as many steps as the slowest car of a federation, on the pictures of all cars. So two numbers are the
    federation's: the pictures that are seen, and the steps that follow one another.

    >>> from fedsim.algorithms import Local
    >>> algorithm = CentralWide()
    >>> shared = algorithm.init_shared(0.0)
    >>> sent, memory = algorithm.contribute(Local(w=1.5, steps=5, images=40, step_length=0.5), shared, None)
    >>> algorithm.update(shared, sent, participation=1.0)  # as in Central, after fewer steps
    Shared(theta=1.5)
    """

    name = "central-wide"
    title = "centralised, wide"
    wide = True
