"""When a run's checkpoints are written, and that it ends with one when it is asked to stop."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from gnnfast.training.run_folder import RunFolder
from gnnfast.training.run_state import RunState
from gnnfast.training.settings import TrainingSettings
from gnnfast.training.stage_clock import StageClock
from gnnfast.training.stopping import Stopped, StopSignals

log = logging.getLogger("gnnfast")


class CheckpointWriter:
    """Writes the state of a run into its folder: after steps when one is due, and whenever it is told to.

    Args:
        folder: None writes nothing.
        state: Of the run.
        settings: How often, and how many are kept.
        clock: Counts the time it takes.
        stop: What may ask the run to stop.
    """

    def __init__(
        self,
        folder: RunFolder | None,
        state: RunState,
        settings: TrainingSettings,
        clock: StageClock,
        stop: StopSignals,
    ):
        self.folder = folder
        self.state = state
        self.settings = settings
        self.clock = clock
        self.stop = stop
        self._seconds_between = 60 * (settings.checkpoint_minutes or float("inf"))
        self._written_at = perf_counter()

    def after_step(self) -> None:
        """Writes what is due, and ends a run that is asked to stop.

        Raises:
            Stopped: If it is.
        """
        if self.stop.received is not None:
            self.write()
            raise Stopped(self.stop.received)
        every = self.settings.checkpoint_steps
        is_due = every is not None and self.state.steps % every == 0
        if is_due or perf_counter() - self._written_at >= self._seconds_between:
            self.write()

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Around what takes long and changes nothing: a run that is asked to stop does so at once, with a checkpoint.

        Raises:
            Stopped: If it is.
        """
        try:
            with self.stop.at_once():
                yield
        except Stopped:
            self.write()
            raise

    def write_best(self) -> None:
        """Writes the best weights, for evaluation and prediction."""
        if self.folder is not None:
            with self.clock("checkpoint"):
                self.folder.save_checkpoint("best", self.state.best.state_dict())

    def write(self) -> None:
        """Writes all it takes to go on from here."""
        if self.folder is not None:
            with self.clock("checkpoint"):
                state = self.state.state_dict(self.clock.seconds())
                self.folder.save_step(self.state.steps, state, self.settings.keep_checkpoints)
        self._written_at = perf_counter()
