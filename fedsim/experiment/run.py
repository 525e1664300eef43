"""One run, from its settings to its report."""

import json
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from logging import Logger
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from fedsim.data.partition import PARTITIONS, SPLIT_FILE
from fedsim.data.partition.split_file import write_split
from fedsim.distributed.world import World
from fedsim.errors import FedsimError, RunError, SettingsError, Stopped
from fedsim.evaluation.evaluate import segment
from fedsim.experiment.assembly import Experiment, assemble
from fedsim.experiment.best import may_end_early
from fedsim.experiment.checks import notes, warnings
from fedsim.experiment.faults import explain_faults, explain_memory
from fedsim.experiment.identity import check_same, config, identity
from fedsim.experiment.resuming import name_launch, run_to_continue, settings_to_continue
from fedsim.experiment.room import make_room
from fedsim.experiment.signals import RunSignals
from fedsim.federation.divergence import REMEDY
from fedsim.federation.measuring import measure_statistics
from fedsim.federation.rounds import initial_state, simulate
from fedsim.federation.scoring import models, trivial_baselines
from fedsim.federation.state import RoundResult, State
from fedsim.models.flat import Norms
from fedsim.own_code import options_that_say_it
from fedsim.record.checkpoints import Checkpoints
from fedsim.record.output_folder import make_dated_folder
from fedsim.record.overview import Overview
from fedsim.record.round_record import add_score, car_details, round_record
from fedsim.record.run_directory import START_FILE, RunDirectory
from fedsim.record.weights import weights_of
from fedsim.report.scenes import load_shown, shown_indices
from fedsim.settings import compatible
from fedsim.settings.fields import Settings
from fedsim.system.console import LOG, SILENT

if TYPE_CHECKING:
    from fedsim.experiment.journal import Journal


def run(settings: Settings, given: Mapping[str, Any]) -> Path:
    """Train, score and record, on every rank of the world that this process belongs to; return the run's directory.

    given: what the command line or its preset asks for, by setting. A run that continues takes the other settings from
    its own directory. Raises UserError before training for a user's mistake, RunError for a fault in the run, Stopped
    after a signal.
    """
    methods = None if settings.resume else compatible.check(settings)
    launch = name_launch(given)
    world = World.join(settings.device, settings.backend, settings.threads, settings.timeout)
    try:
        found = world.together(lambda: run_to_continue(settings, launch) if world.is_coordinator else None)
        path = json.loads(world.broadcast_text(json.dumps(str(found) if found else None)))
        if path:
            settings = world.together(lambda: settings_to_continue(Path(path), given))
            world.use_threads(settings.threads)
        if path or methods is None:
            methods = world.together(lambda: compatible.check(settings))
        with explain_memory(world), ExitStack() as held:
            experiment = assemble(settings, methods, world, _log(world))
            directory = _open_directory(experiment, path, {"launch": launch, "given": sorted(given)}, held)
            with explain_faults(world, settings.model, settings.loss):
                federation = make_room(experiment.federation, settings.car_states, directory.path, _log(world))
                _train(replace(experiment, federation=federation), directory, resumed=bool(path))
        return directory.path
    finally:
        world.leave()


def _open_directory(experiment: Experiment, path: str | None, start: dict[str, Any],
                    held: ExitStack) -> RunDirectory:
    """Return the directory of a new run, or of the one that continues.

    start: what a new run's environment.json tells of its start. No other process can work on it until `held` is closed.
    """
    world, settings = experiment.federation.world, experiment.settings
    if path:
        changed = world.together(lambda: check_same(Path(path), world, experiment.dealt, settings))
        for warning in changed:
            _log(world).warning("%s", warning)

    def open_it() -> str:
        directory = RunDirectory(Path(path)) if path else _new_directory(experiment, start)
        held.enter_context(directory.lock())
        if path:
            directory.warn(changed)
        return str(directory.path)

    opened = world.together(lambda: open_it() if world.is_coordinator else "")
    return RunDirectory(Path(world.broadcast_text(opened)))


def _new_directory(experiment: Experiment, start: dict[str, Any]) -> RunDirectory:
    settings, size = experiment.settings, experiment.federation.world.size
    path = Path(settings.out) if settings.out else make_dated_folder("runs", f"{settings.algo}-{settings.data}")
    if settings.partition not in PARTITIONS:  # a file, of which the run keeps a copy
        settings = replace(settings, partition=str(path.resolve() / SPLIT_FILE))
    if settings.init is not None:  # of which the run keeps what it has taken over
        settings = replace(settings, init=str(path.resolve() / START_FILE))
    config_file = shlex.quote(str(path / "config.toml"))
    return RunDirectory.create(
        path, config(settings),
        experiment.environment() | start | {"command": shlex.join(sys.argv),
                                            "warnings": _collect_warnings(experiment)},
        header=f"repeat with: fedsim run --ranks {size} --config {config_file}{options_that_say_it(config(settings))}",
        write_others=partial(_write_copies, experiment))


def _write_copies(experiment: Experiment, folder: Path) -> None:
    """Write into a new run's directory what it needs to be repeated: the split, and the weights that it starts from."""
    dealt = experiment.dealt
    write_split(folder / SPLIT_FILE, dealt.shards, dealt.train_set, experiment.settings.data)
    if experiment.start is not None:
        experiment.start.save(folder / START_FILE)


def _collect_warnings(experiment: Experiment) -> list[str]:
    """Return the warnings that were given before training."""
    return [*experiment.dealt.warnings(), *warnings(experiment.federation)]


def _train(experiment: Experiment, directory: RunDirectory, resumed: bool) -> None:
    federation, settings = experiment.federation, experiment.settings
    checkpoints = Checkpoints(directory.checkpoints, federation,
                              identity(settings, experiment.dealt, experiment.start, federation.world.device.type))
    clock, state = time.perf_counter(), initial_state(federation)
    if resumed:
        state = checkpoints.load(state, _log(federation.world))
        _check_rounds(state, settings, directory.path)
        federation.world.together(
            lambda: directory.update(config(settings)) if federation.world.is_coordinator else None)
    last = state.round if state.round else -1
    journal = federation.world.together(
        lambda: _open_journal(experiment, directory, last, state) if federation.world.is_coordinator else None)
    try:
        if resumed and journal:
            LOG.info("%s", _say_what_is_left(state, settings, directory.path, journal.why_ended()))
        if last < 0:
            _record(experiment, journal, state, None, clock)
        scored = last == settings.rounds and _score_last(experiment, journal, state)
        if not _has_ended(experiment, journal):
            state = _play(experiment, checkpoints, journal, state)
        _end(experiment, journal, state, new=scored or state.round > max(last, 0))
    finally:
        if journal:
            journal.close()


def _play(experiment: Experiment, checkpoints: Checkpoints, journal: "Journal | None", state: State) -> State:
    """Play the rounds that are left, and return the state after them. Raises Stopped after a signal."""
    federation, settings, world = experiment.federation, experiment.settings, experiment.federation.world
    clock = time.perf_counter()
    with RunSignals() as signals:
        for result in simulate(federation, state):
            state = result.state
            seen = _record(experiment, journal, state, result, clock)
            clock = time.perf_counter()
            stop, wanted = signals.agree(world)
            # After trouble too: a run that stops has to stay stopped when it is resumed.
            ended = _has_ended(experiment, journal)
            due = state.round % settings.checkpoint_every == 0 or state.round == settings.rounds or ended
            if wanted or due or result.trouble:
                checkpoints.save(state)
                _log(world).debug("checkpoint of round %d written to %s", state.round, checkpoints.folder)
            if ended:
                return state
            if state.round % settings.evaluate_every == 0 and state.round < settings.rounds:
                _show(experiment, journal, seen)
            if stop:
                path = checkpoints.folder.parent
                raise Stopped(f"stopped by {signal.Signals(stop).name} after round {state.round} of {settings.rounds}; "
                              f"--resume {shlex.quote(str(path))}{options_that_say_it(config(settings))} goes on", stop)
    return state


def _has_ended(experiment: Experiment, journal: "Journal | None") -> bool:
    """Return whether the latest score ends the run before its last round, the same on every rank."""
    if not may_end_early(experiment.settings):
        return False
    return bool(experiment.federation.world.broadcast_number(journal is not None and journal.why_ended() is not None))


def _end(experiment: Experiment, journal: "Journal | None", state: State, new: bool) -> None:
    """Write the models and the summary, with which the run has ended, and then what can be made again: the report.

    new: whether the last round has been scored just now, so that it has no panel yet.
    """
    federation = experiment.federation
    state = measure_statistics(federation, state)
    federation.world.doing = "writing the models"

    def save(book: "Journal", name: str, theta: Tensor, norms: Norms) -> None:
        federation.model.load(theta, norms)
        average = {"average": json.dumps(experiment.settings.average_weights)} if name == "averaged" else {}
        book.save_model(name, weights_of(federation.model.module), experiment.model_card() | average)

    for name, theta, norms in models(federation, state):
        _keep(experiment, journal, partial(save, name=name, theta=theta, norms=norms))
    _keep(experiment, journal, lambda book: book.end())
    federation.world.doing = "writing the report"
    with _after_the_end(journal):
        if new:
            _show(experiment, journal, state)
        trivial = trivial_baselines(federation, experiment.dealt.train_set, experiment.dealt.eval_set)
        shown = _predict_shown(experiment, state)
        if journal and shown is not None:
            journal.finish(shown, trivial)


@contextmanager
def _after_the_end(journal: "Journal | None") -> Iterator[None]:
    """Turn whatever goes wrong after a run has ended into a sentence that says what there is and what is missing."""
    try:
        yield
    except Exception as error:
        if journal is None:
            raise
        said = str(error) if isinstance(error, FedsimError) else f"{type(error).__name__}: {error}".rstrip(": ")
        raise RunError(f"the report could not be made ({' '.join(said.split())}); the run has ended, its models and "
                       f"records are complete, and {Overview.of(journal.directory.path).resume} makes the report"
                       ) from error


def _say_what_is_left(state: State, settings: Settings, path: Path, why_ended: str | None) -> str:
    if why_ended:
        return (f"{path} has ended after round {state.round} of {settings.rounds}, because {why_ended}: nothing is "
                "trained, and its models and report are written again. Another --stop-at or --patience goes on with it")
    if state.round < settings.rounds:
        return f"Going on in {path} after round {state.round} of {settings.rounds}"
    return (f"{path} has played all {settings.rounds} rounds: nothing is trained, and its models and report are "
            "written again. More --rounds go on with it, and another --out starts a new run")


def _check_rounds(state: State, settings: Settings, path: Path) -> None:
    if state.round > settings.rounds:
        raise SettingsError(f"--rounds is {settings.rounds}, but {path} has played {state.round}: take at least as "
                            "many")


def _record(experiment: Experiment, journal: "Journal | None", state: State, result: RoundResult | None,
            started: float) -> State:
    """Score a state if its round is to be scored, and record it.

    Returns the state as it was scored, with the statistics that belong to it.
    """
    federation, settings = experiment.federation, experiment.settings
    federation.world.doing = f"scoring round {state.round}"
    due = state.round % settings.evaluate_every == 0 or state.round == settings.rounds
    before = time.perf_counter()
    if due:
        state = measure_statistics(federation, state)
    scored = experiment.score(state) if due else None
    seconds = {"local": 0.0, "combine": 0.0} if result is None else dict(result.seconds)
    seconds |= {"evaluate": time.perf_counter() - before, "total": time.perf_counter() - started}

    def write(book: "Journal") -> None:
        names = experiment.dealt.eval_set.classes.names
        record = round_record(settings.algo, federation, state, result, scored, names, seconds)
        if result is not None and result.trouble:
            remedy = f"; the run may diverge: {REMEDY}" if settings.on_divergence == "warn" else ""
            record["warning"] = f"{result.trouble}{remedy}"
        book.write(record, car_details(result, scored, names) if result else {})
        if settings.keep_best and book.is_best():
            federation.model.load(state.shared.theta, state.norms)
            book.keep_best(weights_of(federation.model.module), experiment.model_card())

    _keep(experiment, journal, write)
    return state


def _score_last(experiment: Experiment, journal: "Journal | None", state: State) -> bool:
    """Score the state that a resumed run ends with, if its round was not the last one when it was played.

    Returns whether it has been scored now.
    """
    federation, dealt = experiment.federation, experiment.dealt
    if not federation.world.broadcast_number(journal is not None and journal.lacks_score()):
        return False
    federation.world.doing = f"scoring round {state.round}"
    state = measure_statistics(federation, state)
    scored = experiment.score(state)
    names = dealt.eval_set.classes.names
    _keep(experiment, journal,
          lambda book: book.score_last(lambda record: add_score(record, federation, state, scored, names)))
    return True


def _keep(experiment: Experiment, journal: "Journal | None", action: Callable[["Journal"], None]) -> None:
    """Let the coordinator's journal write something. What goes wrong is raised on every rank, so that nobody waits."""
    experiment.federation.world.together(lambda: action(journal) if journal else None)


def _show(experiment: Experiment, journal: "Journal | None", state: State) -> None:
    """Write a panel of what the model of a round says of the shown scenes."""
    shown = _predict_shown(experiment, state)
    _keep(experiment, journal, lambda book: book.show(state.round, shown) if shown is not None else None)


def _predict_shown(experiment: Experiment, state: State) -> list[np.ndarray] | None:
    """Return predictions (h, w) uint8 for each shown scene on the coordinator, None on other ranks.

    They are of the global model; of car 0's if cars have models of their own.
    """
    federation = experiment.federation
    _, theta, norms = next(models(federation, state))
    if not federation.world.is_coordinator:
        return None
    federation.model.load(theta, norms)
    return segment(federation.model, experiment.dealt.eval_set, shown_indices(experiment.dealt.eval_set),
                   experiment.view)


def _open_journal(experiment: Experiment, directory: RunDirectory, last: int, state: State) -> "Journal":
    # Imported here because its writers take long to import, and only the coordinator needs them.
    from fedsim.experiment.journal import Journal

    federation, dealt = experiment.federation, experiment.dealt
    pixels = np.stack([dealt.train_set.histograms[shard.indices].sum(0) for shard in dealt.shards])
    if federation.method.algorithm.pooled:
        pixels = pixels.sum(0, keepdims=True)
    return Journal(directory, dealt.train_set.classes, federation.fleet.cars, config(experiment.settings), last=last,
                   notes=[*notes(federation), *filter(None, [experiment.view.note()])], pixels=pixels,
                   duals=state.mean_dual is not None,
                   shown=lambda: load_shown(dealt.eval_set, dealt.source, dealt.scored.on_disk))


def _log(world: World) -> Logger:
    """Return the log of this rank: the coordinator speaks for all ranks."""
    return LOG if world.is_coordinator else SILENT
