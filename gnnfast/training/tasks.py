"""What is predicted: how a mini-batch is scored, what is measured, which models and samplers fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from gnnfast.distributed import World
from gnnfast.graph import Dataset, LinkDataset, MiniBatch
from gnnfast.loader import DataLoader
from gnnfast.nn import LinkModel
from gnnfast.sampler import Sampler
from gnnfast.training.evaluation import Evaluator
from gnnfast.training.history import History, history_for
from gnnfast.training.link_evaluation import LinkEvaluator
from gnnfast.training.link_metrics import LINK_METRICS, is_link_metric
from gnnfast.training.metrics import METRICS, default_metric, summed_loss
from gnnfast.training.precision import as_input
from gnnfast.training.settings import TrainingSettings

BatchLoss = Callable[[Any, MiniBatch], Tensor]


class Measure(Protocol):
    """What a task evaluates with."""

    def evaluate(self, model: Any, split: str, metrics: tuple[str, ...] = ...) -> dict[str, float]:
        """Metrics of a split by name, and where there is one its `loss`; nothing for an empty split."""
        ...

    def work(self, split: str) -> int:
        """Rows and edges that one evaluation goes through."""
        ...


class Task(Protocol):
    """All that the training loop has to know of what is predicted."""

    history: History | None
    """What mini-batches of `batch_loss` read and write besides the model, if anything."""

    input_dtype: torch.dtype | None
    """What single-precision features are rounded to as they are gathered; None leaves them."""

    @property
    def default_metric(self) -> str:
        """What decides which epoch is best."""
        ...

    def check(self, model: Any, loader: DataLoader) -> None:
        """Raises ValueError where settings, model and mini-batches do not fit the task."""
        ...

    def batch_loss(self, model: Any, loader: DataLoader, device: torch.device) -> BatchLoss:
        """Takes the model, as the launcher wraps it, and a mini-batch; gives the loss summed over its seeds."""
        ...

    def evaluator(
        self,
        model: Any,
        device: torch.device | str = "cpu",
        loader: DataLoader | None = None,
        world: World | None = None,
    ) -> Measure:
        """What measures the model; by the loader's mini-batches where settings ask for sampled evaluation.

        Args:
            model: What is measured.
            device: Where to compute.
            loader: The training's.
            world: Ranks that share the work; all of them measure alike.
        """
        ...


def task_of(dataset: Dataset | LinkDataset, settings: TrainingSettings | None = None) -> Task:
    """The task of a data set."""
    settings = settings or TrainingSettings()
    return LinkTask(dataset, settings) if isinstance(dataset, LinkDataset) else NodeTask(dataset, settings)


class NodeTask:
    """Classes, or several labels, of nodes: cross-entropy."""

    def __init__(self, dataset: Dataset, settings: TrainingSettings):
        self.dataset = dataset
        self.settings = settings
        self.history: History | None = None
        # Mixed precision rounds the model's inputs anyhow: as they are gathered it halves what is written and read.
        self.input_dtype: torch.dtype | None = torch.bfloat16 if settings.precision == "bf16-mixed" else None

    @property
    def default_metric(self) -> str:
        return default_metric(self.dataset)

    def check(self, model: Any, loader: DataLoader) -> None:
        dataset, settings = self.dataset, self.settings
        if settings.metric not in ("auto", *METRICS):
            raise ValueError(f"training.metric={settings.metric} is for pairs, but {dataset.name} has labels of nodes")
        if settings.embedding_penalty:
            raise ValueError(f"training.embedding_penalty is for pairs, but {dataset.name} has labels of nodes")
        if settings.loss != "auto":
            raise ValueError(f"training.loss={settings.loss} is for pairs, but {dataset.name} has labels of nodes")
        if settings.evaluation == "sampled" and not isinstance(loader.sampler, Sampler):
            raise ValueError(
                f"training.evaluation=sampled needs a sampler that takes seeds, which {type(loader.sampler).__name__} "
                "does not: use evaluation=exact"
            )
        if model.in_channels != dataset.num_features:
            raise ValueError(
                f"the model takes {model.in_channels} features but {dataset.name} has {dataset.num_features}"
            )
        if model.out_channels < dataset.num_classes:
            raise ValueError(f"the model has {model.out_channels} outputs for {dataset.num_classes} classes")

    def batch_loss(self, model: Any, loader: DataLoader, device: torch.device) -> BatchLoss:
        arguments = history_for(loader, model, device)
        self.history = arguments.get("history")
        dtype = next(model.parameters()).dtype

        def loss(model: Any, batch: MiniBatch) -> Tensor:
            assert batch.x is not None
            assert batch.y is not None
            x = as_input(batch.x, dtype, self.settings.precision)
            logits = batch.at_seeds(model(x, batch.blocks, **arguments))
            return summed_loss(logits, batch.y, batch.seed_weight)

        return loss

    def evaluator(
        self,
        model: Any,
        device: torch.device | str = "cpu",
        loader: DataLoader | None = None,
        world: World | None = None,
    ) -> Evaluator:
        if self.settings.evaluation == "exact" or loader is None:
            return Evaluator(self.dataset, model.num_layers, device, world=world)
        assert isinstance(loader.sampler, Sampler)
        return Evaluator(self.dataset, model.num_layers, device, loader.sampler, loader.seed, loader.batch_size, world)


class LinkTask:
    """Pairs of nodes that have an edge, told from pairs that have none."""

    def __init__(self, dataset: LinkDataset, settings: TrainingSettings):
        self.dataset = dataset
        self.settings = settings
        self.loss_name = "bce" if settings.loss == "auto" else settings.loss
        self.history: History | None = None
        self.input_dtype: torch.dtype | None = None  # learned inputs may come beside the features

    @property
    def default_metric(self) -> str:
        """ROC AUC against the given negatives; without any the recall among the first 20."""
        return "recall@20" if self.dataset.val_negatives is None else "roc_auc"

    def check(self, model: Any, loader: DataLoader) -> None:
        dataset, settings = self.dataset, self.settings
        if settings.metric != "auto" and not is_link_metric(settings.metric):
            raise ValueError(
                f"training.metric={settings.metric} is no metric of pairs, which {dataset.name} has: use "
                f"{', '.join(LINK_METRICS)}"
            )
        needs_negatives = settings.metric in ("roc_auc", "average_precision")
        if needs_negatives and dataset.val_negatives is None and dataset.val_edges.numel():
            raise ValueError(
                f"training.metric={settings.metric} needs pairs that are none, and {dataset.name} has no fixed ones: "
                "use mrr, hits@10, recall@20 or ndcg@20"
            )
        if not isinstance(model, LinkModel):
            raise ValueError(f"{dataset.name} has pairs of nodes: wrap the model in a LinkModel, with a decoder")
        if settings.evaluation == "sampled":
            raise ValueError("training.evaluation=sampled is for tasks on nodes: for pairs use evaluation=exact")
        if getattr(loader.sampler, "num_negatives", 1) < 1:
            raise ValueError("predicting edges needs pairs that are none: use sampler.num_negatives=1 or more")
        if settings.embedding_penalty and model.embedding is None:
            raise ValueError("training.embedding_penalty is on learned embeddings, which the model does not have")
        width = dataset.num_features + (0 if model.embedding is None else model.embedding.channels)
        if width == 0:
            raise ValueError(f"{dataset.name} has no features: the model needs a NodeEmbedding")
        if model.encoder.in_channels != width:
            raise ValueError(f"the encoder takes {model.encoder.in_channels} channels, but its inputs have {width}")
        if model.embedding is not None and model.embedding.num_nodes != dataset.num_nodes:
            raise ValueError(
                f"the embedding has rows for {model.embedding.num_nodes} of {dataset.num_nodes} nodes of {dataset.name}"
            )

    def batch_loss(self, model: Any, loader: DataLoader, device: torch.device) -> BatchLoss:
        dtype = next((parameter.dtype for parameter in model.parameters()), torch.get_default_dtype())

        def loss(model: Any, batch: MiniBatch) -> Tensor:
            assert batch.edge_rows is not None
            assert batch.edge_labels is not None
            x = None if batch.x is None else as_input(batch.x, dtype, self.settings.precision)
            scores, inputs = model(x, batch.blocks, batch.node_ids, batch.edge_rows)
            num_positives = int(batch.edge_labels.count_nonzero())
            total = summed_pair_loss(self.loss_name, scores, num_positives)
            if self.settings.embedding_penalty:
                squares = summed_squares(inputs, batch.edge_rows, num_positives)
                total = total + 0.5 * self.settings.embedding_penalty * squares
            return total

        return loss

    def evaluator(
        self,
        model: Any,
        device: torch.device | str = "cpu",
        loader: DataLoader | None = None,
        world: World | None = None,
    ) -> LinkEvaluator:
        return LinkEvaluator(self.dataset, model.num_layers, device, world)


def summed_pair_loss(name: str, scores: Tensor, num_positives: int) -> Tensor:
    """The loss of a mini-batch of pairs, summed over its positives.

    Args:
        name: "bce": the binary cross-entropy of each positive and the mean of its negatives'. "bpr": the mean over a
            positive's negatives of `-log sigmoid(positive - negative)` (Rendle et al., BPR: Bayesian Personalized
            Ranking from Implicit Feedback, 2009, https://arxiv.org/abs/1205.2618). "softmax": the cross-entropy of
            picking the positive from among its negatives.
        scores: `(num_positives * (1 + num_negatives),)`: positives, then their negatives one after another.
        num_positives: 0 where a rank has no share of a step: the loss is then 0, with gradients of 0.
    """
    if num_positives == 0:
        return scores.sum()
    scores = scores if scores.dtype == torch.float64 else scores.float()
    positives, negatives = scores[:num_positives, None], scores[num_positives:].view(num_positives, -1)
    if name == "bpr":
        return F.softplus(negatives - positives).mean(1).sum()
    if name == "softmax":
        return (torch.cat([positives, negatives], dim=1).logsumexp(1) - positives[:, 0]).sum()
    return F.softplus(-positives).sum() + F.softplus(negatives).mean(1).sum()


def summed_squares(inputs: Tensor, edge_rows: Tensor, num_positives: int) -> Tensor:
    """Squared norms of the inputs at both ends of each positive, and the mean of those its negatives lead to, summed.

    This is what LightGCN and NGCF penalize. 0 without positives, with gradients of 0.
    """
    squares = inputs.float().square().sum(1)
    ends, negatives = edge_rows[:, :num_positives], edge_rows[1, num_positives:]
    total = squares[ends].sum()
    return total if num_positives == 0 else total + squares[negatives].view(num_positives, -1).mean(1).sum()
