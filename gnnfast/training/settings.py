"""When to stop, what to measure, how exactly to compute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from gnnfast.distributed import place
from gnnfast.training.link_metrics import LINK_METRICS, is_link_metric
from gnnfast.training.metrics import METRICS

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "64-true")


@dataclass(frozen=True)
class TrainingSettings:
    """How a run goes.

    Args:
        epochs: Passes over the training nodes, at most.
        patience: Epochs without a better validation metric after which to stop; None never does.
        loss: For tasks on pairs "bce", "bpr" or "softmax", see `summed_pair_loss`; "auto" is binary cross-entropy for
            pairs and cross-entropy for nodes.
        embedding_penalty: Factor of half the squared norms of the learned embeddings that a mini-batch of pairs is
            about: L2 regularization of these rows only.
        metric: What decides which epoch is best: one of `METRICS`, for pairs `LINK_METRICS` or hits, recall and ndcg at
            another number, as "recall@50"; "auto" is accuracy, micro F1 for several labels, and for pairs ROC AUC or,
            where no negatives are given, recall@20.
        precision: "32-true", "64-true", "bf16-mixed", or "16-mixed" with loss scaling (GPU only).
        accelerator: "cpu", "cuda" or "auto".
        devices: Devices to train on, with a process each; on a CPU processes that share its cores. `gnnfast train`
            starts them. Where torchrun or srun has, it is their number, and need not be given.
        evaluation: "exact" by layer-wise inference, or "sampled" from the training sampler's own mini-batches, for
            graphs too large; its results are labelled so.
        evaluate_every: Epochs from one evaluation to the next; "auto" keeps evaluation under a fifth of the work.
        gradient_clip: Largest norm of the gradient; None leaves it as it is.
        accumulate: Mini-batches per optimizer step.
        profile: Whether to find out what the time goes to and which setting would shorten it; "trace" also writes
            `trace.json`, every operation of some steps, into the run folder.
        max_restarts: How often a run that fails is continued from its newest checkpoint before it is given up.
        keep_checkpoints: Checkpoints to go on from that are kept: the last ones.
        checkpoint_minutes: Time from one of them to the next, inside epochs; None writes none by time. Every evaluation
            is followed by one.
        checkpoint_steps: Optimizer steps from one of them to the next, inside epochs; None writes none by steps.
        on_nonfinite: What a loss that is not finite does: "stop" ends the run, "skip" goes on without that step's
            update, up to ten times in a row.
        memory_check: What becomes of a run that will need more memory than is free, by an estimate before it begins:
            "warn" goes on with a warning, "error" refuses it, "off" estimates nothing.

    Raises:
        ValueError: If a value is out of range.
    """

    epochs: int = 50
    patience: int | None = None
    loss: Literal["auto", "bce", "bpr", "softmax"] = "auto"
    embedding_penalty: float = 0.0
    metric: str = "auto"
    precision: str = "32-true"
    accelerator: str = "auto"
    devices: int = 1
    evaluation: Literal["exact", "sampled"] = "exact"
    evaluate_every: int | Literal["auto"] = "auto"
    gradient_clip: float | None = None
    accumulate: int = 1
    profile: bool | Literal["trace"] = False
    max_restarts: int = 0
    keep_checkpoints: int = 2
    checkpoint_minutes: float | None = 10.0
    checkpoint_steps: int | None = None
    on_nonfinite: Literal["stop", "skip"] = "stop"
    memory_check: Literal["warn", "error", "off"] = "warn"

    def __post_init__(self) -> None:
        if not self.memory_check:
            # What YAML makes of the word off.
            object.__setattr__(self, "memory_check", "off")
        choices = {
            "loss": ("auto", "bce", "bpr", "softmax"),
            "precision": PRECISIONS,
            "accelerator": ("auto", "cpu", "cuda"),
            "evaluation": ("exact", "sampled"),
            "on_nonfinite": ("stop", "skip"),
            "memory_check": ("warn", "error", "off"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"training.{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        if self.metric not in ("auto", *METRICS) and not is_link_metric(self.metric):
            known = ", ".join(dict.fromkeys(("auto", *METRICS, *LINK_METRICS)))
            raise ValueError(f"training.metric must be one of {known}, got {self.metric!r}")
        penalty = self.embedding_penalty
        if not _is_number(penalty) or not penalty >= 0:
            raise ValueError(f"training.embedding_penalty must be at least 0, got {penalty!r}")
        for name in ("epochs", "devices", "accumulate", "keep_checkpoints"):
            if not _is_positive_int(getattr(self, name)):
                raise ValueError(f"training.{name} must be a positive integer, got {getattr(self, name)!r}")
        for name in ("patience", "checkpoint_steps"):
            if getattr(self, name) is not None and not _is_positive_int(getattr(self, name)):
                raise ValueError(f"training.{name} must be a positive integer or null, got {getattr(self, name)!r}")
        if self.max_restarts != 0 and not _is_positive_int(self.max_restarts):
            raise ValueError(f"training.max_restarts must be an integer of at least 0, got {self.max_restarts!r}")
        minutes = self.checkpoint_minutes
        if minutes is not None and not (_is_number(minutes) and minutes > 0):
            raise ValueError(f"training.checkpoint_minutes must be positive or null, got {minutes!r}")
        if self.evaluate_every != "auto" and not _is_positive_int(self.evaluate_every):
            raise ValueError(f"training.evaluate_every must be a positive integer or auto, got {self.evaluate_every!r}")
        if self.profile not in (True, False, "trace"):
            raise ValueError(f"training.profile must be true, false or trace, got {self.profile!r}")
        clip = self.gradient_clip
        if clip is not None and not (isinstance(clip, int | float) and clip > 0):
            raise ValueError(f"training.gradient_clip must be positive or null, got {self.gradient_clip!r}")

    def resolved_accelerator(self) -> str:
        """The accelerator to use: "cpu" or "cuda".

        Raises:
            ValueError: If this machine lacks it, has fewer devices than asked for, or cannot compute in `precision`.
        """
        num_gpus = torch.cuda.device_count()
        accelerator = self.accelerator
        if accelerator == "auto":
            accelerator = "cuda" if num_gpus else "cpu"
        if accelerator == "cuda" and not num_gpus:
            raise ValueError("training.accelerator=cuda, but torch finds no GPU on this machine: use accelerator=cpu")
        # Where processes are started from outside, those of this host have its devices.
        wanted = place().local_world_size if place().world_size > 1 else self.devices
        if accelerator == "cuda" and wanted > num_gpus:
            raise ValueError(f"training.devices={wanted} on this machine, but it has {num_gpus} GPU to train on")
        if self.precision == "16-mixed" and accelerator == "cpu":
            raise ValueError("training.precision=16-mixed needs a GPU: on a CPU use bf16-mixed, or 32-true")
        return accelerator


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_positive_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
