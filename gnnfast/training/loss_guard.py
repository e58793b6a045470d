"""Noticing a loss that is not finite, and saying where it comes from."""

from __future__ import annotations

import logging
import math
from functools import partial
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.modules.batchnorm import _NormBase

from gnnfast.graph import MiniBatch
from gnnfast.training.checkpointing import CheckpointWriter
from gnnfast.training.run_state import RunState, nonfinite_weights
from gnnfast.training.settings import TrainingSettings
from gnnfast.training.tasks import BatchLoss

log = logging.getLogger("gnnfast")

# To look at a loss on a GPU waits for it: so many mini-batches share one wait.
_BATCHES_PER_WAIT = 32
_MAX_SKIPPED_IN_A_ROW = 10
_HINT = "Are all features finite? If so, try a smaller optimizer.lr"


class LossGuard:
    """Looks at losses before they reach the weights; on a GPU soon after, unless steps are to be skipped.

    Args:
        state: Of the run.
        settings: Of the run.
        batch_loss: Of the task.
        checkpoints: Keeps the state before a step whose loss is not finite.

    Raises:
        ValueError: If steps are to be skipped whose mini-batches leave something behind in a history.
    """

    def __init__(
        self, state: RunState, settings: TrainingSettings, batch_loss: BatchLoss, checkpoints: CheckpointWriter
    ):
        self.state = state
        self.skips = settings.on_nonfinite == "skip"
        self.batch_loss = batch_loss
        self.checkpoints = checkpoints
        if self.skips and state.history is not None:
            raise ValueError(
                "training.on_nonfinite=skip cannot take back what a mini-batch leaves in the history that this sampler "
                "needs: use on_nonfinite=stop"
            )
        self.looks_at_once = self.skips or state.fabric.device.type == "cpu"
        self._statistics = [module for module in state.model.modules() if isinstance(module, _NormBase)]
        self._unseen: list[tuple[int, Tensor]] = []
        self._before: _Before | None = None
        self._num_skipped = 0

    def before_step(self) -> None:
        """Remembers what the forward passes of a step change."""
        if self.looks_at_once:
            self._before = _Before(self._statistics, self.state.fabric.device)

    def admits(self, group: list[MiniBatch], losses: list[Tensor]) -> bool:
        """Whether the optimizer may take the step.

        Args:
            group: Its mini-batches.
            losses: Theirs, detached.

        Raises:
            FloatingPointError: If a loss is not finite, and that was not to be skipped or happened too often in a row.
        """
        self._unseen += enumerate(losses, self.state.batches)
        if not self.looks_at_once and len(self._unseen) < _BATCHES_PER_WAIT:
            return True
        bad = self._first_bad()
        is_bad = bad is not None
        if self.skips:
            # All ranks take the step, or none does.
            (is_bad,) = map(bool, self.state.world.largest([is_bad]))
        if not is_bad:
            self.state.skipped_in_a_row = 0
            return True
        if bad is None:
            assert self._before is not None
            self._before.restore()
            self.state.skipped_in_a_row += 1
            return False
        if not self.skips or self.state.skipped_in_a_row + 1 >= _MAX_SKIPPED_IN_A_ROW:
            self._give_up(*bad)
        self._skip(*bad, group)
        return False

    def look(self) -> None:
        """Looks at the losses that were not looked at yet.

        Raises:
            FloatingPointError: If one is not finite.
        """
        bad = self._first_bad()
        if bad is not None:
            self._give_up(*bad)

    def _first_bad(self) -> tuple[int, float] | None:
        """The first mini-batch not looked at so far whose loss is not finite, by its number, and that loss."""
        unseen, self._unseen = self._unseen, []
        if not unseen:
            return None
        values = [float(unseen[0][1])] if len(unseen) == 1 else torch.stack([loss for _, loss in unseen]).tolist()
        numbered = zip((number for number, _ in unseen), values, strict=True)
        return next(((number, value) for number, value in numbered if not math.isfinite(value)), None)

    def _skip(self, number: int, loss: float, group: list[MiniBatch]) -> None:
        assert self._before is not None
        self._before.restore()
        self.state.skipped_in_a_row += 1
        self._num_skipped += 1
        # The first, the second, the fourth, the eighth.
        if self._num_skipped & (self._num_skipped - 1) == 0:
            where = self._place(number, group[number - self.state.batches])
            log.warning(f"the training loss is {loss} {where}: its update is skipped, {self._num_skipped} so far")

    def _give_up(self, number: int, loss: float) -> NoReturn:
        """Says where the loss came from and where the state before it is."""
        batch = self._make_again(number)
        source = f"{self._place(number, batch)}; {self._source(batch)}"
        kept = self._keep()
        again = f", the {_MAX_SKIPPED_IN_A_ROW}th in a row" if self.skips else ""
        raise FloatingPointError(f"the training loss is {loss}{again} {source}. {_HINT}{kept}")

    def _keep(self) -> str:
        """Has the state before the step on disk, and says where."""
        # Other ranks do not know that they would have to take part.
        can_write = self._before is not None and self.state.history is None and self.state.fabric.world_size == 1
        if can_write and not nonfinite_weights(self.state.model):
            assert self._before is not None
            self._before.restore()
            self.checkpoints.write()
        newest = self.checkpoints.newest()
        return f". The last good state is in {newest}" if newest else ""

    def _place(self, number: int, batch: MiniBatch) -> str:
        seeds = batch.seed_nodes if batch.seed_edges is None else batch.seed_edges.T
        shown = ", ".join(str(seed) for seed in seeds[:8].tolist())
        more = f" and {seeds.shape[0] - 8} more" if seeds.shape[0] > 8 else ""
        return f"in epoch {self.state.epoch}, step {number}, of seeds {shown}{more}"

    def _make_again(self, number: int) -> MiniBatch:
        loader = self.state.loader
        loader.load_state_dict({**loader.state_dict(), "epoch": self.state.epoch, "step": number})
        return next(iter(loader))

    @torch.no_grad()
    def _source(self, batch: MiniBatch) -> str:
        """The first thing on the way to the loss that is not finite."""
        model = self.state.model
        if not self.looks_at_once and (stored := self.checkpoints.load_newest()):
            # The loss has reached the weights meanwhile.
            model.load_state_dict(stored["model"])
        if names := nonfinite_weights(model):
            return f"the weights {', '.join(names[:3])} are not finite"
        if batch.x is not None and not bool((finite := batch.x.isfinite().all(1)).all()):
            return f"the features of node {int(batch.node_ids[~finite.to(batch.node_ids.device)][0])} are not finite"
        if self._before is not None:
            self._before.restore()
        found: list[str] = []
        hooks = [
            module.register_forward_hook(partial(_note, found, name or "the model"))
            for name, module in model.named_modules()
        ]
        try:
            with self.state.fabric.autocast():
                self.batch_loss(model, batch)
        finally:
            for hook in hooks:
                hook.remove()
        return (
            f"the first output that is not finite is that of {found[0]}" if found else "all layers' outputs are finite"
        )


class _Before:
    """What the forward passes of a step change besides a history: random states and running statistics.

    Args:
        statistics: The modules that have such.
        device: Of the model.
    """

    def __init__(self, statistics: list[_NormBase], device: torch.device):
        self.device = device
        self.buffers = [(buffer, buffer.clone()) for module in statistics for buffer in module.buffers()]
        self.random = torch.get_rng_state()
        self.random_on_gpu = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None

    def restore(self) -> None:
        for buffer, before in self.buffers:
            buffer.copy_(before)
        torch.set_rng_state(self.random)
        if self.random_on_gpu is not None:
            torch.cuda.set_rng_state(self.random_on_gpu, self.device)


def _note(found: list[str], name: str, module: Module, inputs: Any, output: Any) -> None:
    """A forward hook: notes a module whose output is not finite, the innermost and first one first."""
    for tensor in output if isinstance(output, tuple) else (output,):
        if isinstance(tensor, Tensor) and tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            found.append(f"{name} ({type(module).__name__})")
            return
