import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from fedsim.record.weights import save_weights


def test_weights_and_metadata_read_back_bit_for_bit(tmp_path):
    """Views of one vector, channels-last strides, a tied weight and integers: what a model's state holds."""
    vector = torch.randn(64)
    kernel = torch.randn(4, 3, 5, 5).to(memory_format=torch.channels_last)
    state = {"a": vector[:24].view(4, 6), "b": vector[24:], "kernel": kernel, "tied": kernel,
             "grad": torch.randn(3, requires_grad=True), "count": torch.tensor(7)}
    save_weights(state, tmp_path / "model.safetensors", {"round": "3"})
    loaded = load_file(tmp_path / "model.safetensors")
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert file.metadata() == {"round": "3"}
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_failed_save_leaves_the_old_weights_and_nothing_else(tmp_path, monkeypatch):
    """Mutation: write to the path itself."""
    path = tmp_path / "model.safetensors"
    save_weights({"a": torch.ones(2)}, path, {})

    def torn(tensors, filename, metadata):
        filename.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", torn)
    with pytest.raises(OSError, match="No space"):
        save_weights({"a": torch.zeros(2)}, path, {})
    assert torch.equal(load_file(path)["a"], torch.ones(2))
    assert [found.name for found in tmp_path.iterdir()] == ["model.safetensors"]
