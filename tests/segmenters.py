"""Networks that nobody trained, in files that a run might have written."""

from pathlib import Path

import torch

from fedsim.classes import CAMVID_11
from fedsim.models.card import ModelCard
from fedsim.record.weights import save_weights, weights_of

SETTINGS = {"algo": "avg", "data": "streets"}


def card_of(model: str = "segnet-small", width: int | None = 4, size: tuple[int, int] = (32, 24),
            **settings: object) -> ModelCard:
    return ModelCard(model, width, "batch", size, CAMVID_11, SETTINGS | settings)


def write_model(path: Path, card: ModelCard, **metadata: str) -> Path:
    """Random weights, lively enough for labels of several classes, with the card; metadata replaces parts of it."""
    torch.manual_seed(0)
    state = {name: torch.zeros_like(tensor) if name.endswith("bias") else 4 * tensor if tensor.ndim == 4 else tensor
             for name, tensor in weights_of(card.network()).items()}
    save_weights(state, path, card.metadata() | metadata)
    return path
