"""Partitions by class: the classes that cars want, and who gets which scene.

The literature deals pictures of one class each. A scene of a road holds nearly every class. So here a car wants shares
of classes, and a scene is worth more to it if the scene shows more of the classes that it wants.
"""

import numpy as np

# The exponent of a scene's worth: a larger one gives scenes more firmly to the cars that want their classes. Scenes of
# a road differ far less than pictures of one class. With CamVid's 367 training scenes and 4 cars, the skew at alpha 0.1
# is 0.004 bits with exponent 1 and 0.013 bits with 5. Dealt at random it is 0.0007, by drive 0.020.
SHARPNESS = 5
SCENES_AT_ONCE = 64  # bounds memory; the scores of 1,000 cars stay in the processor's cache
SAMPLE = 4096  # scenes from which prices are estimated
PRICE_STEPS = 20  # iterations that balance prices


def tastes(cars: int, classes: int, alpha: float, random: np.random.Generator) -> np.ndarray:
    """Draw the shares of classes that cars want, (cars, classes): q_i ~ Dirichlet(alpha).

    Hsu, Qi & Brown 2019 (arXiv:1909.06335, §3).
    """
    return random.dirichlet(np.full(classes, alpha), cars)


def favourites(cars: int, classes: int, number: int, random: np.random.Generator) -> np.ndarray:
    """Draw `number` classes for each car, which it wants in equal shares, (cars, classes).

    All classes are wanted equally often, within one. After McMahan et al. 2017 (arXiv:1602.05629, §3), where each
    client has shards of few classes.
    """
    wanted, times = np.zeros((cars, classes)), np.zeros(classes)
    for row in wanted:
        rarest = np.lexsort((random.random(classes), times))[:number]
        row[rarest] = 1 / number
        times[rarest] += 1
    return wanted


def assign_scenes(histograms: np.ndarray, wanted: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return the car of each scene, (N,) int64. All cars get equally many scenes, within one.

    histograms: pixels by scene and class (N, C), where each class occurs in some scene; wanted: shares q_ic (cars, C).
    h_n are the shares of classes in scene n and h those in the pool. Scene n is worth a_in = Σ_c q_ic h_nc / h_c to
    car i. Scenes come in random order, and a scene goes to car i with a probability in proportion to
    room_i · price_i · a_in^SHARPNESS. The car is drawn as the largest logarithm of these plus Gumbel noise
    (Yellott 1977). room_i is the number of scenes that car i still gets; it keeps cars from being full long before the
    end, when the last scenes would find only cars that do not want them. The price of a car makes up for how well its
    wishes match the scenes.
    """
    scenes, cars = len(histograms), len(wanted)
    shares = histograms / np.maximum(histograms.sum(1, keepdims=True), 1)
    value = (wanted / shares.mean(0)).T
    order = random.permutation(scenes)
    price = _prices(_appeal(shares[order[:SAMPLE]], value))
    room = np.array([len(part) for part in np.array_split(np.arange(scenes), cars)])
    owner = np.empty(scenes, np.int64)
    for start in range(0, scenes, SCENES_AT_ONCE):
        some = order[start:start + SCENES_AT_ONCE]
        noise = -np.log(random.standard_exponential((len(some), cars)))
        owner[some] = _seat(_appeal(shares[some], value) + price + noise, room)
    return owner


def _appeal(shares: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Return the logarithm of a_in^SHARPNESS: (n, C), (C, cars) -> (n, cars)."""
    return SHARPNESS * np.log(np.maximum(shares @ value, 1e-12))


def _prices(appeal: np.ndarray) -> np.ndarray:
    """Return the logarithms of the prices (cars,) at which each car gets the same number of the scenes (n, cars).

    Sinkhorn's balancing of rows and columns: Cuturi 2013 (arXiv:1306.0895).
    """
    weights = np.exp(appeal - appeal.max(1, keepdims=True))
    price = np.ones(weights.shape[1])
    for _ in range(PRICE_STEPS):
        price = 1 / (weights.T @ (1 / (weights @ price)))
        price /= price.mean()
    return np.log(price)


def _seat(scores: np.ndarray, room: np.ndarray) -> np.ndarray:
    """Return the car of each scene, by scores (n, cars), and subtract these scenes from the room (cars,).

    If more scenes choose a car than it has room for, the first of them get it and the others choose again.
    """
    with np.errstate(divide="ignore"):
        scores += np.log(room)
    car = np.empty(len(scores), np.int64)
    waiting = np.arange(len(scores))
    while len(waiting):
        choice = scores[waiting].argmax(1)
        by_car = np.argsort(choice, kind="stable")
        turn = np.empty_like(by_car)
        turn[by_car] = np.arange(len(choice)) - np.searchsorted(choice[by_car], choice[by_car])
        served = turn < room[choice]
        car[waiting[served]] = choice[served]
        room -= np.bincount(choice[served], minlength=len(room))
        scores[:, room == 0] = -np.inf
        waiting = waiting[~served]
    return car
