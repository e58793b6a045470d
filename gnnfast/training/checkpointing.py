"""When a run's checkpoints are written, and that it ends with one when it is asked to stop."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any, NoReturn

from gnnfast.training.run_folder import RunFolder
from gnnfast.training.run_state import RunState, nonfinite_weights
from gnnfast.training.settings import TrainingSettings
from gnnfast.training.stage_clock import StageClock
from gnnfast.training.stopping import Stopped, StopSignals

log = logging.getLogger("gnnfast")


class CheckpointWriter:
    """Writes the state of a run into its folder: after steps when one is due, and whenever it is told to.

    Args:
        folder: None writes nothing: that is left to the first rank.
        state: Of the run.
        settings: How often, and how many are kept.
        clock: Counts the time it takes.
        stop: What may ask the run to stop.
        is_kept: Whether some rank writes. All ranks make the same calls, since each has a part of the state.
    """

    def __init__(
        self,
        folder: RunFolder | None,
        state: RunState,
        settings: TrainingSettings,
        clock: StageClock,
        stop: StopSignals,
        is_kept: bool,
    ):
        self.folder = folder
        self.state = state
        self.settings = settings
        self.clock = clock
        self.stop = stop
        self.is_kept = is_kept
        self.world = state.world
        self._seconds_between = 60 * (settings.checkpoint_minutes or float("inf"))
        self._written_at = perf_counter()

    def after_step(self) -> None:
        """Writes what is due, and ends a run that is asked to stop.

        Raises:
            Stopped: If it is.
        """
        every = self.settings.checkpoint_steps
        is_due = every is not None and self.state.steps % every == 0
        is_time = perf_counter() - self._written_at >= self._seconds_between
        # Signals reach ranks, and time passes on them, at different steps.
        received, due = self.world.largest([self.stop.received or 0, is_due or is_time])
        if received:
            self._stop(received)
        if due:
            self.write()

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Around what takes long and changes nothing: a run that is asked to stop does so at once, with a checkpoint.

        Several ranks do so behind it: none may leave the others waiting.

        Raises:
            Stopped: If it is.
        """
        if self.world.size > 1:
            yield
            (received,) = self.world.largest([self.stop.received or 0])
            if received:
                self._stop(received)
            return
        try:
            with self.stop.at_once():
                yield
        except Stopped:
            self.write()
            raise

    def _stop(self, signal_number: int) -> NoReturn:
        self.write()
        # Nobody ends before the checkpoint is there.
        self.world.wait()
        raise Stopped(signal_number)

    def write_best(self) -> None:
        """Writes the best weights, for evaluation and prediction."""
        if self.folder is not None:
            with self.clock("checkpoint"):
                self.folder.save_checkpoint("best", self.state.best.state_dict())

    def newest(self) -> Path | None:
        """The newest checkpoint to go on from."""
        steps = self.folder.steps() if self.folder else []
        return self.folder.checkpoint_path(f"step-{steps[-1]}") if self.folder and steps else None

    def load_newest(self) -> dict[str, Any] | None:
        """What the newest checkpoint holds."""
        return self.folder.load_newest() if self.folder else None

    def write(self) -> None:
        """Writes all it takes to go on from here.

        Raises:
            FloatingPointError: If that leads nowhere; the checkpoints before are untouched.
        """
        if self.is_kept:
            if names := nonfinite_weights(self.state.model):
                kept = f". The last good state is in {newest}" if (newest := self.newest()) else ""
                raise FloatingPointError(
                    f"after step {self.state.steps} the weights {', '.join(names[:3])} are not finite: try a smaller "
                    f"optimizer.lr, or training.gradient_clip{kept}"
                )
            with self.clock("checkpoint"):
                state = self.state.state_dict(self.clock.seconds())
                if self.folder is not None:
                    self.folder.save_step(self.state.steps, state, self.settings.keep_checkpoints)
        self._written_at = perf_counter()
