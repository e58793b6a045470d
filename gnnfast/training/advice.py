"""Which setting would shorten a run, by rules on what was measured."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

_WORTH_SAVING = 0.05  # of the time: what less than this saves is not worth a word
_EVALUATIONS = 5  # a run is left with at least


@dataclass(frozen=True)
class Run:
    """What was measured of a run, as shares of its time, and what it ran with.

    Args:
        shares: By stage of the thread that trains.
        loader_share: Sampling and gathering, added up over the threads that did them.
        products_share: Products of matrices, part of forward and backward.
        loader_threads: As `DataLoader`'s `num_threads`.
        steps_per_epoch, epochs: As set, not as reached.
        evaluate_every: Epochs from one evaluation to the next.
        precision: As in `TrainingSettings`.
        cores: Available to the process.
        torch_threads: That torch computes with.
        on_gpu: Whether the model is on a GPU.
        has_bf16: Whether its device has bfloat16 arithmetic.
        can_fuse: Whether the optimizer has a fused form that is not in use.
    """

    shares: dict[str, float]
    loader_share: float
    products_share: float
    loader_threads: int
    steps_per_epoch: int
    epochs: int
    evaluate_every: int
    precision: str
    cores: int
    torch_threads: int
    on_gpu: bool
    has_bf16: bool
    can_fuse: bool

    @property
    def waiting(self) -> float:
        """Share of the time in which there is no mini-batch to train on."""
        return self.shares["wait"] + sum(self.shares.get(stage, 0.0) for stage in ("sample", "gather"))

    @property
    def busy_cores(self) -> float:
        """Cores in use, on average: torch's while there is a mini-batch, and those that make mini-batches."""
        return (1 - self.waiting) * (1 if self.on_gpu else self.torch_threads) + self.loader_share


@dataclass(frozen=True)
class Advice:
    """A setting to change.

    Args:
        saving: Share of the time that it may save.
        reason: What takes the time.
        setting: The setting with its new value, as on the command line.
        now: Its value in the run.
    """

    saving: float
    reason: str
    setting: str
    now: object


def advise(run: Run) -> tuple[str, str | None]:
    """The bottleneck in a sentence, and the setting to change; without one where no rule finds any worth its while."""
    found = [advice for rule in RULES if (advice := rule(run)) and advice.saving >= _WORTH_SAVING]
    if not found:
        stage, share = max(_grouped(run).items(), key=lambda item: item[1])
        return f"{share:.0%} of the time goes to {stage}; no setting is known to shorten this run on this machine", None
    best = max(found, key=lambda advice: advice.saving)
    return f"{best.reason}: try {best.setting} (now {best.now})", best.setting


def _grouped(run: Run) -> dict[str, float]:
    shares = dict(run.shares)
    model = shares.pop("forward") + shares.pop("backward")
    for stage in ("wait", "sample", "gather"):
        shares.pop(stage, None)
    return {"forward and backward": model, "making mini-batches": run.waiting, **shares}


def more_loader_threads(run: Run) -> Advice | None:
    """The loader is waited for, and there are cores to make mini-batches on meanwhile."""
    threads = range(run.loader_threads + 1, run.cores + 1)
    if not threads:
        return None

    def time_with(num_threads: int) -> float:
        # Each epoch begins with a mini-batch that nothing hides.
        unhidden = 1 - run.waiting + run.loader_share / run.steps_per_epoch
        side_by_side = min(num_threads, run.steps_per_epoch)
        return max(unhidden, run.loader_share / side_by_side, run.busy_cores / run.cores)

    fewest = min(threads, key=lambda num_threads: (round(time_with(num_threads), 2), num_threads))
    reason = f"the loader is waited for {run.waiting:.0%} of the time, and there are {run.cores} cores"
    return Advice(1 - time_with(fewest), reason, f"loader.num_threads={fewest}", run.loader_threads)


def rarer_evaluation(run: Run) -> Advice | None:
    """Evaluation, and the checkpoints written with it, take more than a tenth of the time."""
    share = run.shares["evaluate"] + run.shares["checkpoint"]
    if share >= 1:
        return None
    for_a_tenth = math.ceil(9 * run.evaluate_every * share / (1 - share))
    interval = min(for_a_tenth, run.epochs // _EVALUATIONS)
    if interval <= run.evaluate_every:
        return None
    every = "every epoch" if run.evaluate_every == 1 else f"every {run.evaluate_every} epochs"
    reason = f"evaluation and checkpoints after {every} take {share:.0%} of the time"
    return Advice(
        share * (1 - run.evaluate_every / interval), reason, f"training.evaluate_every={interval}", run.evaluate_every
    )


def half_precision(run: Run) -> Advice | None:
    """Products of matrices in float32 where the device has bfloat16 arithmetic: they take about half the time in it."""
    if run.precision != "32-true" or not run.has_bf16:
        return None
    reason = (
        f"products of matrices take {run.products_share:.0%} of the time, "
        f"and this {'GPU' if run.on_gpu else 'processor'} has bfloat16 arithmetic"
    )
    return Advice(0.4 * run.products_share, reason, "training.precision=bf16-mixed", run.precision)


def more_torch_threads(run: Run) -> Advice | None:
    """The model computes on fewer cores than stand idle."""
    threads = min(run.cores, run.torch_threads + math.floor(run.cores - run.busy_cores + 0.5))
    if run.on_gpu or threads <= run.torch_threads:
        return None
    share = run.shares["forward"] + run.shares["backward"] + run.shares["evaluate"]
    reason = (
        f"the model computes {share:.0%} of the time on {run.torch_threads} of {run.cores} cores, others are idle; "
        "in the environment"
    )
    # Not all of it runs on several threads.
    return Advice(
        0.6 * share * (1 - run.torch_threads / threads), reason, f"OMP_NUM_THREADS={threads}", run.torch_threads
    )


def fused_optimizer(run: Run) -> Advice | None:
    """Adam in its fused form: a third of the time for the weights of three layers of 256 on a CPU."""
    share = run.shares["optimizer"]
    if not run.can_fuse or run.precision == "16-mixed":  # which cannot clip gradients then
        return None
    return Advice(0.5 * share, f"the optimizer takes {share:.0%} of the time", "optimizer.fused=true", "false")


RULES: tuple[Callable[[Run], Advice | None], ...] = (
    more_loader_threads,
    rarer_evaluation,
    half_precision,
    more_torch_threads,
    fused_optimizer,
)
