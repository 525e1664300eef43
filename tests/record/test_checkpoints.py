"""Checkpoints on disk: what is kept, what a kill leaves, and what is done about damage.

States are those of quadratics after rounds 1, 2, …, of which five cars take part in turn. Each test names a mutation
that it was seen to catch.
"""

import errno
import hashlib
import json
import os
import re
import shutil
from itertools import pairwise
from pathlib import Path
from unittest.mock import Mock

import pytest
import quadratics
import torch
from hypothesis import given
from hypothesis import strategies as st
from quadratics import UNEQUAL, bowls
from safetensors.torch import load_file, save
from scenery import on_ranks

from fedsim.algorithms import FedAvg, Scaffold
from fedsim.errors import OutputError, RunError
from fedsim.federation.rounds import initial_state, run_round
from fedsim.record import checkpoints, part_files
from fedsim.record.checkpoints import PART, RECORD, Checkpoints
from fedsim.system.console import SILENT

ROUNDS = 4


def make(algorithm=None, **others):
    return quadratics.federation(algorithm or Scaffold(), bowls(images=UNEQUAL), participation=0.4, steps=1, **others)


MADE = make()
STATES = [initial_state(MADE)]
for _ in range(ROUNDS + 1):
    STATES.append(run_round(MADE, STATES[-1]).state)
TAKING_PART = [set(), *({car for car in state.memories if state.memories[car] is not before.memories.get(car)}
                        for before, state in pairwise(STATES))]


def written(folder: Path, *rounds: int, identity: str = "this run") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    checkpoints = Checkpoints(folder, MADE, identity)
    for number in rounds:
        checkpoints.save(STATES[number])
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """After rounds 1 to 4. Read only."""
    return written(tmp_path_factory.mktemp("run") / "checkpoints", *range(1, ROUNDS + 1))


@pytest.fixture
def copy(folder, tmp_path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "checkpoints"))


def load(folder: Path, identity: str = "this run"):
    """(round, warnings) of what is loaded, which is the state of that round to the bit."""
    said: list[str] = []
    log = Mock(warning=lambda text, *values: said.append(text % values))
    found = Checkpoints(folder, MADE, identity).load(STATES[0], log)
    expected = STATES[found.round]
    assert found.digest() == expected.digest() and found.memories.keys() == expected.memories.keys()
    assert torch.equal(found.shared.c, expected.shared.c)
    assert all(torch.equal(found.memories[car], expected.memories[car]) for car in found.memories)
    return found.round, said


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def record(number: int) -> str:
    return f"round-{number:06d}.json"


def test_two_checkpoints_are_kept_and_nothing_that_belongs_to_neither(folder):
    """Catches parts of a car that has gone on that stay for ever, and parts that an older checkpoint still needs."""
    needed = set()
    for number in (ROUNDS - 1, ROUNDS):
        needed |= {record(number), f"global-{number:06d}.safetensors"}
        for car in STATES[number].memories:
            latest = max(late for late in range(1, number + 1) if car in TAKING_PART[late])
            needed.add(f"car-{car:05d}-{latest:06d}.safetensors")
    assert names(folder) == needed
    assert load(folder) == (ROUNDS, [])


def test_only_cars_that_took_part_are_written_again(tmp_path):
    """Also by a process that has loaded. Catches a car's part written in every round."""
    assert len(TAKING_PART[4]) == 2 and TAKING_PART[4] != TAKING_PART[3]
    folder = written(tmp_path / "c", 1, 2, 3)
    before = {name: os.stat(folder / name).st_ino for name in names(folder)}
    checkpoints = Checkpoints(folder, MADE, "this run")
    found = checkpoints.load(STATES[0], Mock(warning=pytest.fail))
    state = run_round(MADE, found).state
    checkpoints.save(state)
    fresh = {name for name in names(folder) if name not in before}
    assert fresh == {record(4), "global-000004.safetensors",
                     *(f"car-{car:05d}-000004.safetensors" for car in TAKING_PART[4])}
    assert all(os.stat(folder / name).st_ino == node for name, node in before.items() if name in names(folder))


def test_cars_that_keep_nothing_have_no_parts(tmp_path):
    made = make(FedAvg())
    checkpoints = Checkpoints(tmp_path, made, "avg")
    checkpoints.save(run_round(made, initial_state(made)).state)
    assert names(tmp_path) == {record(1), "global-000001.safetensors"}


def test_files_of_others_stay(copy):
    """Catches a glob that takes weights for parts."""
    others = {"model.safetensors", "car-03-town.safetensors", "notes.txt", "round-1.json", "car-1-2.safetensors"}
    for name in others:
        (copy / name).write_text("precious")
    checkpoints = Checkpoints(copy, MADE, "this run")
    checkpoints.save(run_round(MADE, checkpoints.load(STATES[0], Mock(warning=pytest.fail))).state)
    assert others <= names(copy)


def test_every_rank_writes_the_parts_of_its_own_cars(tmp_path):
    """Two ranks write the very files of one. Catches a coordinator that names its own cars alone."""
    def play(world):
        made = make(world=world)
        checkpoints, state = Checkpoints(tmp_path / str(world.size), made, "this run"), initial_state(made)
        for _ in range(2):
            state = run_round(made, state).state
            checkpoints.save(state)

    for size in (1, 2):
        (tmp_path / str(size)).mkdir()
        assert on_ranks(size, play) == [None] * size
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / size).iterdir()} for size in "12")
    assert one == two and sum(name.startswith("car") for name in one) >= 3


class Killed(BaseException):
    """The process is gone: nothing after it runs."""


class Disk:
    """Counts what is asked of the disk; the n-th time `error` is raised, and of a write half comes through.

    A process that is killed asks nothing more: what it would tidy up afterwards stays.
    """

    def __init__(self, monkeypatch, fail_at: int, error: BaseException) -> None:
        self.calls, self.fail_at, self.error = 0, fail_at, error
        for owner, name in [(os, "replace"), (os, "fsync"), (Path, "unlink")]:
            monkeypatch.setattr(owner, name, self.counted(getattr(owner, name)))
        for module in (checkpoints, part_files):
            monkeypatch.setattr(module, "open", self.open, raising=False)

    def counted(self, real):
        def ask(*arguments, **options):
            self.step()
            return real(*arguments, **options)
        return ask

    def step(self) -> None:
        self.calls += 1
        if self.calls == self.fail_at or (self.calls > self.fail_at and isinstance(self.error, Killed)):
            raise self.error

    def open(self, *arguments, **options):
        self.step()
        file = open(*arguments, **options)  # noqa: SIM115 closed by File
        disk = self

        class File:
            def __enter__(self):
                return self

            def __exit__(self, *about):
                file.close()

            def write(self, data):
                try:
                    disk.step()
                except BaseException:
                    file.write(data[:len(data) // 2])
                    file.flush()
                    raise
                return file.write(data)

            flush, fileno = file.flush, file.fileno

        return File()


@pytest.mark.parametrize("error", [Killed(), OSError(errno.ENOSPC, "No space left on device")], ids=["kill", "full"])
def test_whatever_step_of_a_checkpoint_fails_the_one_before_or_the_new_one_is_whole(copy, tmp_path, error):
    """Every write, sync, rename and removal in turn; then the run goes on. Catches the record written before its
    parts, a part written over one that the checkpoint before needs, a rename left out, and files removed first.
    """
    outcomes, halves = [], 0
    for fail_at in range(1, 1000):
        folder = Path(shutil.copytree(copy, tmp_path / f"{fail_at}"))
        checkpoints = Checkpoints(folder, MADE, "this run")
        state = run_round(MADE, checkpoints.load(STATES[0], Mock(warning=pytest.fail))).state
        with pytest.MonkeyPatch.context() as patch:
            disk = Disk(patch, fail_at, error)
            try:
                checkpoints.save(state)
                outcomes.append("saved")
            except Killed:
                outcomes.append("killed")
            except RunError as said:
                assert re.fullmatch(rf"round 5, rank 0: cannot write the checkpoint in {folder} \(No space .*whole",
                                    str(said))
                outcomes.append("told")
        halves += any(".part" in name for name in names(folder))
        found, warnings = load(folder)
        assert not warnings and found in ((ROUNDS, ROUNDS + 1) if outcomes[-1] != "saved" else (ROUNDS + 1,))
        again = Checkpoints(folder, MADE, "this run")
        again.save(run_round(MADE, again.load(STATES[0], Mock(warning=pytest.fail))).state)
        assert not any(".part" in name for name in names(folder))
        if disk.calls < fail_at:
            break
    assert bool(halves) == isinstance(error, Killed)  # after which nothing tidies up
    assert 12 < len(outcomes) < 1000 and outcomes[-1] == "saved"
    assert set(outcomes[:-1]) <= ({"killed"} if isinstance(error, Killed) else {"told", "saved"})


@pytest.fixture(scope="module")
def parts(folder) -> list[str]:
    """Of the latest checkpoint: its record, the coordinator's part, and a car's that only it names."""
    car = min(TAKING_PART[ROUNDS])
    return [record(ROUNDS), f"global-{ROUNDS:06d}.safetensors", f"car-{car:05d}-{ROUNDS:06d}.safetensors"]


def truncate(path):
    path.write_bytes(path.read_bytes()[:-2])  # a record's last byte is a line feed


def extend(path):
    path.write_bytes(path.read_bytes() + b"x")


def empty(path):
    path.write_bytes(b"")


def make_a_directory(path):
    path.unlink()
    path.mkdir()


def link_to_nothing(path):
    path.unlink()
    path.symlink_to("nowhere")


def link_to_itself(path):
    path.unlink()
    path.symlink_to(path.name)


def grow(path):
    with open(path, "r+b") as file:
        file.truncate(2**40)


def claim_a_giant_header(path):
    path.write_bytes((2**62).to_bytes(8, "little") + path.read_bytes()[8:])


def nest(path):
    path.write_bytes(b"[" * (path.stat().st_size - 1) + b"\n")


DAMAGE = [truncate, extend, empty, Path.unlink, make_a_directory, link_to_nothing, link_to_itself, grow,
          claim_a_giant_header, nest]


@pytest.mark.parametrize("place", range(3), ids=["record", "global", "car"])
@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_a_damaged_file_is_told_and_the_checkpoint_before_is_taken(copy, parts, damage, place):
    """A hole of a tebibyte costs no memory. Catches a digest that is not looked at, and a size read after the file."""
    damage(copy / parts[place])
    found, said = load(copy)
    assert found == ROUNDS - 1
    if (damage, place) == (Path.unlink, 0):
        assert not said  # there is no sign of it
    else:
        assert len(said) == 1 and said[0].startswith(f"{copy / parts[place]} ") and "\n" not in said[0]


@given(place=st.integers(0, 2), data=st.data())
def test_no_flipped_bit_goes_unnoticed(folder, parts, tmp_path_factory, place, data):
    """But for space between the words of a record. Catches a digest of a part of a file."""
    target = tmp_path_factory.mktemp("flipped") / "checkpoints"
    shutil.copytree(folder, target)
    content = bytearray((target / parts[place]).read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (target / parts[place]).write_bytes(content)
    found, said = load(target)
    assert (found, len(said)) == (ROUNDS - 1, 1) or (place == 0 and (found, said) == (ROUNDS, []))
    shutil.rmtree(target)


def test_a_record_with_other_words_is_noticed_whatever_they_are(copy):
    """Each of its words in turn. Catches a digest that some of them are not part of."""
    text = (copy / record(ROUNDS)).read_text()
    for match in re.finditer(r"[\w.]+", text):
        other = "".join("1" if letter == "0" else "0" for letter in match[0])
        (copy / record(ROUNDS)).write_text(text[:match.start()] + other + text[match.end():])
        assert load(copy)[0] == ROUNDS - 1


@pytest.mark.parametrize("kind", ["round", "car", "run", "record"])
def test_files_in_each_others_place_are_no_checkpoint(copy, parts, tmp_path, kind):
    """Catches names that are trusted, and a record that is believed about its own round."""
    other = written(tmp_path / "other", 3, 4, identity="another run")
    cars = sorted(name for name in names(copy) if name.startswith("car") and name.endswith("4.safetensors"))
    source, target = {"round": (copy / f"global-{ROUNDS - 1:06d}.safetensors", parts[1]),
                      "car": (copy / cars[0], cars[1]), "run": (other / record(ROUNDS), parts[0]),
                      "record": (copy / record(ROUNDS - 1), parts[0])}[kind]
    shutil.copy(source, copy / target)
    found, said = load(copy)
    assert found == ROUNDS - 1 and len(said) == 1
    assert ("another run" in said[0]) == (kind == "run")


def forge(folder: Path, change_content=lambda content: None, change_parts=lambda parts: None) -> None:
    """Change the latest checkpoint, with digests that are right. change_parts is given the coordinator's part."""
    path, part = folder / record(ROUNDS), folder / f"global-{ROUNDS:06d}.safetensors"
    content = json.loads(path.read_text())["checkpoint"]
    tensors = load_file(part)
    change_parts(tensors)
    data = save(tensors)
    part.write_bytes(data)
    content["global"] = [ROUNDS, len(data), hashlib.sha256(data).hexdigest()]
    change_content(content)
    text = json.dumps(content)
    path.write_text(json.dumps({"sha256": hashlib.sha256(text.encode()).hexdigest(), "checkpoint": json.loads(text)}))


def without(name):
    return lambda content: content.pop(name)


@pytest.mark.parametrize(("change", "says"), [
    ({"format": 2}, "written by another version of fedsim; this one .* reads format 1"),
    ({"run": "of another"}, "another run: its settings or its data"),
    ({"round": 3, "global": [3, 5, "x"]}, "cannot be used"), ({"theta_sha256": "0" * 64}, "do not belong together"),
    ({"cars": []}, "does not name its parts"), ({"cars": {"0": 7}}, "does not name its parts"),
    ({"cars": {"x": [1, 2, "3"]}}, "does not name its parts"), ({"cars": {"0": [1, 2]}}, "does not name its parts"),
    ({"cars": {"0": ["../../x", 2, "3"]}}, "does not name its parts"), ({"cars": {"0": [-1, 2, "3"]}}, "not name"),
    ({"cars": {"0": [1.5, 2, "3"]}}, "does not name its parts"), ({"cars": {"0": [4, True, "3"]}}, "does not name"),
    ({"global": None}, "does not name its parts"), ({"global": {"a": 1}}, "does not name its parts"),
    ({"global": [4, "many", "x"]}, "does not name its parts"), ({"global": [4, 2**80, "x"]}, "cannot be used"),
])
def test_a_forged_record_is_refused_in_a_sentence(copy, change, says):
    """With a digest that is right. Catches what is read taken for what was written."""
    forge(copy, lambda content: content.update(change))
    found, said = load(copy)
    assert found == ROUNDS - 1 and len(said) == 1 and re.search(says, said[0]), said


def test_an_honest_forgery_loads(copy):
    """So the tests around it fail for what they change."""
    forge(copy)
    assert load(copy) == (ROUNDS, [])


@pytest.mark.parametrize("change", [
    lambda part: part["shared.theta"].fill_(float("nan")), lambda part: part["shared.theta"].add_(1),
    lambda part: part.update(round=torch.tensor(ROUNDS - 1)), lambda part: part.pop("mean_dual", part.pop("round")),
    lambda part: part.update({"huge": torch.zeros(2**19)}),
], ids=["nan", "moved", "another round", "gone", "too large"])
def test_forged_tensors_are_refused(copy, change):
    """With digests that are right. Catches each check left out."""
    forge(copy, change_parts=change)
    found, said = load(copy)
    assert found == ROUNDS - 1 and len(said) == 1


def test_where_no_checkpoint_can_be_used_one_sentence_says_why(copy):
    """Catches a run that silently starts from round 0."""
    for path in copy.glob("global-*"):
        truncate(path)
    with pytest.raises(OutputError, match=r"none of the 2 checkpoint\(s\) in .* can be used; start a new run with "
                                          r"another --out \(.*global-000004\.safetensors cannot be used: it has"):
        load(copy)
    with pytest.raises(OutputError, match=r"none of the 2 .* is a checkpoint of another run"):
        load(copy, identity="another run")


def test_without_checkpoints_a_run_is_at_its_start(tmp_path):
    (tmp_path / "round-x.json").write_text("")
    (tmp_path / "round.part").write_text("")
    assert load(tmp_path) == (0, [])


def test_a_run_that_has_fallen_back_goes_on_over_what_is_damaged(copy):
    """It plays the round again and replaces what was damaged. Catches parts that are thought to be written."""
    for path in copy.glob(f"*{ROUNDS:06d}*"):
        truncate(path)
    checkpoints = Checkpoints(copy, MADE, "this run")
    state = checkpoints.load(STATES[0], SILENT)
    for _ in range(2):
        state = run_round(MADE, state).state
        checkpoints.save(state)
        assert load(copy) == (state.round, [])
    assert {int(RECORD.fullmatch(name)[1]) for name in names(copy) if RECORD.fullmatch(name)} == {ROUNDS, ROUNDS + 1}


def test_a_copy_of_hard_links_does_not_change_its_original(copy, tmp_path):
    """Catches a part that is opened for writing where it lies."""
    truncate(copy / record(ROUNDS))
    clone = tmp_path / "clone"
    shutil.copytree(copy, clone, copy_function=os.link)
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    for path in clone.glob(f"*-{ROUNDS:06d}.safetensors"):
        assert path.stat().st_nlink == 2
    checkpoints = Checkpoints(clone, MADE, "this run")
    state = run_round(MADE, checkpoints.load(STATES[0], SILENT)).state
    checkpoints.save(state)
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before
    assert all(path.stat().st_nlink == 1 for path in clone.glob(f"*-{ROUNDS:06d}.safetensors"))


def test_names_of_parts_are_no_names_of_models():
    """Models lie beside them: car-03-town.safetensors. Catches a pattern that takes one for the other."""
    assert PART.fullmatch("car-00003-000011.safetensors") and PART.fullmatch("global-000001.safetensors")
    assert not any(map(PART.fullmatch, ["model.safetensors", "car-03-town.safetensors", "car-03-000011.safetensors"]))
