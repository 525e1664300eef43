"""Named random streams."""

import torch

from fedsim.seeds import derive, seed_torch, stream


def test_a_seed_belongs_to_its_seed_purpose_and_keys_alone():
    """Catches keys that are glued together: round 1, car 12 is not round 11, car 2."""
    names = [(0, "shuffle", 1, 12), (0, "shuffle", 11, 2), (0, "shuffle", 1), (0, "flip", 1, 12),
             (1, "shuffle", 1, 12), (0, "shuffle", 12, 1), (0, "shuffle", 1, 1, 2)]
    assert len({derive(*name) for name in names}) == len(names)
    assert all(0 <= derive(*name) < 2**63 for name in names)


def test_seeds_are_the_same_in_every_process_and_every_version():
    """Pinned: a run of last year must repeat.

    Catches Python's hash(), which differs from process to process.
    """
    assert derive(3, "shuffle", 7, 1) == 6486675201250147955


def test_a_stream_repeats_whatever_was_drawn_elsewhere():
    first = stream(0, "shuffle", 1, 2).permutation(50)
    stream(0, "shuffle", 1, 3).random(7)
    assert (stream(0, "shuffle", 1, 2).permutation(50) == first).all()
    assert (stream(0, "shuffle", 2, 2).permutation(50) != first).any()


def test_torchs_generator_is_seeded_and_numbers_differ_by_key():
    def draw(*name):
        seed_torch(*name)
        return torch.rand(4)

    assert torch.equal(draw(0, "model", 1, 2), draw(0, "model", 1, 2))
    assert not torch.equal(draw(0, "model", 1, 2), draw(0, "model", 1, 3))
