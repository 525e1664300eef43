"""The papers' algorithms once more, in plain numpy, from the papers: what fedsim's trajectories are compared with.

A car is its gradient, a function of w. Nothing of fedsim is used, nor its way of writing: local models, duals and
control variates are lists by car, sums run over the cars of the round with their weights spelled out.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Gradient = Callable[[np.ndarray], np.ndarray]


class Round(NamedTuple):
    """What a round is given."""

    cars: list[int]  # S
    steps: dict[int, int]  # car -> K_i
    lr: float


def descend(start: np.ndarray, gradient: Gradient, steps: int, lr: float, momentum: float) -> np.ndarray:
    w, v = start.copy(), np.zeros_like(start)
    for _ in range(steps):
        v = momentum * v + gradient(w)
        w = w - lr * v
    return w


def pulled(gradient: Gradient, weight: float, centre: np.ndarray, linear: np.ndarray | float = 0.0) -> Gradient:
    """Of f(w) + <linear, w> + weight/2 |w - centre|^2."""
    return lambda w: gradient(w) + linear + weight * (w - centre)


def unit_length(steps: int, momentum: float, pull: float = 0.0, lr: float = 1.0) -> float:
    """‖a‖₁: what a constant unit gradient adds up to, by feeding one through the solver."""
    x = v = 0.0
    for _ in range(steps):
        v = momentum * v + (1 - pull * lr * x)
        x += v
    return x


def fedprox(theta, gradients, p, rounds, momentum, mu):
    """Li et al. 2020, Algorithm 2; FedAvg (McMahan et al. 2017, Algorithm 1) with mu = 0."""
    for cars, steps, lr in rounds:
        models = {i: descend(theta, pulled(gradients[i], mu, theta), steps[i], lr, momentum) for i in cars}
        theta = sum(p[i] * models[i] for i in cars) / sum(p[i] for i in cars)
        yield theta


def fedadmm(theta, gradients, p, rounds, momentum, rho, own_start=False):
    """Gong et al. 2022, Algorithm 1, with step P_S; rho may be a function of the round's cars, steps and rate."""
    m = len(gradients)
    w, y, sent_rho = [theta] * m, [np.zeros_like(theta)] * m, [np.inf] * m
    for cars, steps, lr in rounds:
        now = rho(cars, steps, lr) if callable(rho) else rho
        change = np.zeros_like(theta)
        for i in cars:
            before = w[i] + y[i] / sent_rho[i]
            start = w[i] if own_start else theta
            local = descend(start, pulled(gradients[i], now, theta, y[i]), steps[i], lr, momentum)
            w[i], y[i], sent_rho[i] = local, y[i] + now * (local - theta), now
            change = change + p[i] * (w[i] + y[i] / now - before)
        theta = theta + change
        yield theta


def consensus_admm(theta, gradients, p, rounds, momentum, rho, order="after", own_start=False):
    """Boyd et al. 2011, §7.1, with theta as the minimiser of the augmented Lagrangian of all cars met so far.

    rho is a function of a car's round, or one for all; order says whether the dual step comes before or after theta.
    """
    m = len(gradients)
    w, y, penalty, waits = [theta] * m, [np.zeros_like(theta)] * m, [0.0] * m, [False] * m
    for cars, steps, lr in rounds:
        for i in cars:
            if waits[i]:
                y[i] = y[i] + penalty[i] * (w[i] - theta)  # the theta that the car receives now
            penalty[i] = rho(i, steps, lr)
            start = w[i] if own_start else theta
            w[i] = descend(start, pulled(gradients[i], penalty[i], theta, y[i]), steps[i], lr, momentum)
            if order == "before":
                y[i] = y[i] + penalty[i] * (w[i] - theta)
            waits[i] = order == "after"
        weight = sum(p[i] * penalty[i] for i in range(m))
        theta = sum(p[i] * (penalty[i] * w[i] + y[i]) for i in range(m)) / weight
        yield theta


def scaffold(theta, gradients, p, rounds, momentum):
    """Karimireddy et al. 2020, Algorithm 1, option II, dividing by what the solver makes of a unit gradient."""
    c, own = np.zeros_like(theta), [np.zeros_like(theta)] * len(gradients)
    for cars, steps, lr in rounds:
        move, change = np.zeros_like(theta), np.zeros_like(theta)
        for i in cars:
            w = descend(theta, pulled(gradients[i], 0.0, theta, c - own[i]), steps[i], lr, momentum)
            new = own[i] - c + (theta - w) / (unit_length(steps[i], momentum) * lr)
            move = move + p[i] * (w - theta)
            change = change + p[i] * (new - own[i])
            own[i] = new
        theta, c = theta + move / sum(p[i] for i in cars), c + change
        yield theta


def feddyn(theta, gradients, p, rounds, momentum, alpha):
    """Acar et al. 2021, Algorithm 1."""
    h, g = np.zeros_like(theta), [np.zeros_like(theta)] * len(gradients)
    for cars, steps, lr in rounds:
        models = {}
        for i in cars:
            models[i] = descend(theta, pulled(gradients[i], alpha, theta, -g[i]), steps[i], lr, momentum)
        for i in cars:
            g[i] = g[i] - alpha * (models[i] - theta)
            h = h - alpha * p[i] * (models[i] - theta)
        theta = sum(p[i] * models[i] for i in cars) / sum(p[i] for i in cars) - h / alpha
        yield theta


def fednova(theta, gradients, p, rounds, momentum, mu=0.0):
    """Wang et al. 2020, eq. 6-8."""
    for cars, steps, lr in rounds:
        q = {i: p[i] / sum(p[j] for j in cars) for i in cars}
        length = {i: unit_length(steps[i], momentum, mu, lr) for i in cars}
        d = {i: (theta - descend(theta, pulled(gradients[i], mu, theta), steps[i], lr, momentum)) / (lr * length[i])
             for i in cars}
        tau = sum(q[i] * length[i] for i in cars)
        theta = theta - tau * lr * sum(q[i] * d[i] for i in cars)
        yield theta


def fedopt(theta, gradients, p, rounds, momentum, rule, step, beta1, beta2, tau):
    """Reddi et al. 2021, Algorithm 2, and Hsu et al. 2019 as the rule "momentum"."""
    m, v = np.zeros_like(theta), np.full_like(theta, tau**2)
    for cars, steps, lr in rounds:
        delta = sum(p[i] * (descend(theta, gradients[i], steps[i], lr, momentum) - theta) for i in cars)
        delta = delta / sum(p[i] for i in cars)
        if rule == "momentum":
            m = beta1 * m + delta
            theta = theta + step * m
        else:
            m = beta1 * m + (1 - beta1) * delta
            if rule == "adagrad":
                v = v + delta**2
            elif rule == "adam":
                v = beta2 * v + (1 - beta2) * delta**2
            elif rule == "yogi":
                v = v - (1 - beta2) * delta**2 * np.sign(v - delta**2)
            theta = theta + step * m / (np.sqrt(v) + tau)
        yield theta
