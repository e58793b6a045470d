"""The loop, its losses and its evaluation on tasks of pairs."""

from __future__ import annotations

import os
from typing import Any
from unittest import mock

import pytest
import torch

from gnnfast.datasets import link_split, planetoid
from gnnfast.graph import FeatureStore, LinkDataset
from gnnfast.loader import DataLoader
from gnnfast.nn import GNN, DotDecoder, LightGCN, LinkModel, MLPDecoder, NodeEmbedding
from gnnfast.sampler import FullGraphSampler, LinkNeighborSampler, NeighborSampler
from gnnfast.training import LinkEvaluator, RowAdam, RunFolder, TrainingSettings, train
from gnnfast.training.tasks import summed_pair_loss, summed_squares, task_of
from tests.training.graphs import easy_dataset
from tests.training.link_graphs import easy_links, easy_recommendations


def fit(
    dataset: LinkDataset, model: LinkModel, sampler: Any, lr: float = 0.01, batch_size: int = 256, **settings: Any
) -> Any:
    loader = DataLoader(dataset, sampler, batch_size=batch_size)
    return train(
        model,
        loader,
        RowAdam(model.parameters(), lr=lr),
        TrainingSettings(**{"epochs": 15, "accelerator": "cpu", **settings}),
    )


def test_hidden_edges_are_found_by_features():
    dataset = easy_links()
    torch.manual_seed(0)
    model = LinkModel(GNN(8, 16, 2, 16, conv="sage"), MLPDecoder(16, 16))
    result = fit(dataset, model, LinkNeighborSampler(dataset.graph, [5, 5]))
    assert result.metric == "roc_auc"
    assert result.test["roc_auc"] > 0.75
    assert set(result.test) == {"roc_auc", "average_precision", "mrr", "hits@10", "recall@20", "ndcg@20"}
    assert result.loss == {}


@pytest.mark.parametrize("loss", ["bce", "bpr", "softmax"])
@pytest.mark.parametrize("sparse", [False, True])
def test_tastes_are_found_without_features(loss: str, sparse: bool):
    dataset = easy_recommendations()
    torch.manual_seed(0)
    model = LinkModel(LightGCN(8, 2), DotDecoder(), NodeEmbedding(70, 8, sparse=sparse))
    sampler = LinkNeighborSampler(dataset.graph, [5, 5], 2, negatives="per_source", dst_range=(40, 69))
    untrained = LinkEvaluator(dataset, 2).evaluate(model, "test")
    result = fit(dataset, model, sampler, 0.05, loss=loss, embedding_penalty=1e-4, metric="recall@10", epochs=12)
    assert result.metric == "recall@10"
    assert set(result.test) == {"mrr", "hits@10", "recall@20", "ndcg@20"}
    # Of 15 places of the taste some 10 are known: the others are the first of 20.
    assert result.test["recall@20"] > 0.95
    assert result.test["mrr"] > untrained["mrr"]


def test_the_full_graph_and_whole_neighborhoods_train_alike():
    dataset = easy_recommendations()
    losses = []
    arguments: dict[str, Any] = {"negatives": "per_source", "dst_range": (40, 69)}
    for sampler in (
        FullGraphSampler(dataset.graph, **arguments),
        LinkNeighborSampler(dataset.graph, [-1], **arguments),
    ):
        torch.manual_seed(0)
        model = LinkModel(LightGCN(8, 1), DotDecoder(), NodeEmbedding(70, 8))
        result = fit(dataset, model, sampler, batch_size=64, loss="bpr", epochs=2, embedding_penalty=0.1)
        losses.append([row["train_loss"] for row in result.history])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_losses_by_hand():
    scores = torch.tensor([1.0, 2.0, 0.0, 1.0, -1.0, 3.0])  # two positives, two negatives of each
    low = torch.nn.functional.softplus
    pairs = low(torch.tensor([0.0 - 1, 1 - 1, -1 - 2, 3 - 2]))
    assert float(summed_pair_loss("bpr", scores, 2)) == pytest.approx(float(pairs.sum()) / 2)
    bce = low(-scores[:2]).sum() + low(scores[2:]).sum() / 2
    assert float(summed_pair_loss("bce", scores, 2)) == pytest.approx(float(bce))
    picked = -torch.log_softmax(torch.tensor([[1.0, 0, 1], [2, -1, 3]]), 1)[:, 0].sum()
    assert float(summed_pair_loss("softmax", scores, 2)) == pytest.approx(float(picked))
    inputs = torch.tensor([[1.0], [2.0], [3.0]])
    rows = torch.tensor([[0, 0, 0], [1, 2, 2]])  # one positive, two negatives
    assert float(summed_squares(inputs, rows, 1)) == 1 + 4 + 9


def test_representations_are_those_of_the_whole_graph():
    dataset = easy_links()
    embedding = NodeEmbedding(dataset.num_nodes, 3)
    model = LinkModel(GNN(11, 6, 2, 5, dropout=0.5), DotDecoder(), embedding)
    rows = LinkEvaluator(dataset, 2).representations(model)
    assert model.training
    assert dataset.features is not None
    model.eval()
    inputs = model.inputs(dataset.features.rows, torch.arange(dataset.num_nodes))
    expected = model.encoder(inputs, dataset.graph.to_block())
    assert torch.allclose(rows, expected, atol=1e-5)


def test_the_test_split_hides_validation_pairs_and_validation_does_not():
    dataset = easy_recommendations()
    evaluator = LinkEvaluator(dataset, 1)
    known = {split: evaluator._ranker(split)._known.num_edges for split in ("val", "test")}
    num_train, num_val = dataset.train_edges.shape[1], dataset.val_edges.shape[1]
    assert known == {"val": 2 * num_train, "test": 2 * (num_train + num_val)}


def test_an_evaluation_that_was_broken_off_leaves_nothing_behind():
    dataset = easy_recommendations()
    torch.manual_seed(0)
    model = LinkModel(LightGCN(8, 1), DotDecoder(), NodeEmbedding(70, 8))
    evaluator = LinkEvaluator(dataset, 1)
    with (
        mock.patch("gnnfast.training.link_evaluation._SCORES_AT_A_TIME", 1),
        mock.patch.object(model.decoder, "score_all", side_effect=[torch.zeros(1, 30), KeyboardInterrupt]),
        pytest.raises(KeyboardInterrupt),
    ):
        evaluator.evaluate(model, "test", ("mrr",))
    assert evaluator.evaluate(model, "test", ("mrr",)) == LinkEvaluator(dataset, 1).evaluate(model, "test", ("mrr",))


def test_turned_pairs_of_a_link_split_do_not_compete():
    dataset = easy_links()
    evaluator = LinkEvaluator(dataset, 1)
    for split, earlier in (("val", ["train"]), ("test", ["train", "val"])):
        partners: dict[int, set[int]] = {}
        for name in (split, *earlier):
            for u, v in dataset.split_ids[name].T.tolist():
                partners.setdefault(u, set()).add(v)
                partners.setdefault(v, set()).add(u)
        pairs = dataset.split_ids[split]
        ranker = evaluator._ranker(split)
        # Who scores all partners above all others ranks every pair first.
        scores = torch.zeros(dataset.num_nodes, dataset.num_nodes)
        for u, others in partners.items():
            scores[u, list(others)] = torch.arange(1.0, len(others) + 1)
        ranker.add(0, scores[ranker.sources])
        ranking = ranker.finish()
        assert ranking.rank.numel() == pairs.shape[1]
        assert ranking.metric("mrr") == ranking.metric("hits@1") == 1


def test_a_run_leaves_its_folder(tmp_path: Any):
    dataset = easy_recommendations()
    model = LinkModel(LightGCN(8, 1), DotDecoder(), NodeEmbedding(70, 8))
    loader = DataLoader(dataset, LinkNeighborSampler(dataset.graph, [3]), batch_size=128)
    settings = TrainingSettings(epochs=2, accelerator="cpu")
    train(model, loader, torch.optim.Adam(model.parameters()), settings, run_folder=tmp_path)
    assert "embedding.weight" in RunFolder(tmp_path).load_checkpoint("best")["model"]
    assert "val_recall@20" in (tmp_path / "metrics.csv").read_text()


def without_features(dataset: LinkDataset) -> LinkDataset:
    return LinkDataset("bare", dataset.graph, *dataset.split_ids.values())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"metric": "accuracy"}, "is no metric of pairs"),
        ({"evaluation": "sampled"}, "for pairs use evaluation=exact"),
        ({"embedding_penalty": 0.1}, "which the model does not have"),
    ],
)
def test_settings_that_do_not_fit_pairs_are_refused(settings: dict[str, Any], message: str):
    dataset = easy_links()
    model = LinkModel(GNN(8, 4, 1, 4), DotDecoder())
    with pytest.raises(ValueError, match=message):
        fit(dataset, model, LinkNeighborSampler(dataset.graph, [2]), **settings)


def test_models_that_do_not_fit_pairs_are_refused():
    dataset = easy_links()
    sampler = LinkNeighborSampler(dataset.graph, [2])
    with pytest.raises(ValueError, match="wrap the model in a LinkModel"):
        fit(dataset, GNN(8, 4, 1, 4), sampler)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="takes 9 channels, but its inputs have 8"):
        fit(dataset, LinkModel(GNN(9, 4, 1, 4), DotDecoder()), sampler)
    with pytest.raises(ValueError, match="rows for 7 of 120 nodes"):
        fit(dataset, LinkModel(GNN(12, 4, 1, 4), DotDecoder(), NodeEmbedding(7, 4)), sampler)
    with pytest.raises(ValueError, match="needs a NodeEmbedding"):
        fit(without_features(dataset), LinkModel(GNN(8, 4, 1, 4), DotDecoder()), sampler)
    with pytest.raises(ValueError, match="num_negatives=1 or more"):
        fit(dataset, LinkModel(GNN(8, 4, 1, 4), DotDecoder()), LinkNeighborSampler(dataset.graph, [2], 0))
    with pytest.raises(TypeError, match="use sampler=link_neighbor"):
        DataLoader(dataset, NeighborSampler(dataset.graph, [2]))


@pytest.mark.parametrize("settings", [{"metric": "mrr"}, {"loss": "bpr"}])
def test_settings_of_pairs_are_refused_for_nodes(settings: dict[str, Any]):
    dataset = easy_dataset()
    loader = DataLoader(dataset, NeighborSampler(dataset.graph, [2]))
    with pytest.raises(ValueError, match="is for pairs, but easy has labels of nodes"):
        task_of(dataset, TrainingSettings(**settings)).check(GNN(8, 4, 1, 3), loader)


@pytest.mark.parametrize("settings", [{"metric": "recall@0"}, {"embedding_penalty": -1.0}, {"loss": "hinge"}])
def test_settings_out_of_range_are_refused(settings: dict[str, Any]):
    with pytest.raises(ValueError, match=f"training.{next(iter(settings))} must be"):
        TrainingSettings(**settings)


@pytest.mark.parametrize(("precision", "dtype"), [("bf16-mixed", torch.bfloat16), ("32-true", torch.float32)])
def test_half_precision_features_beside_embeddings_are_widened_only_where_the_model_computes_wider(
    precision: str, dtype: torch.dtype
):
    dataset = easy_links()
    assert dataset.features is not None
    dataset.features = FeatureStore(dataset.features.rows.bfloat16())
    model = LinkModel(GNN(12, 4, 1, 4), DotDecoder(), NodeEmbedding(120, 4))
    entered: list[torch.dtype] = []
    model.encoder.register_forward_pre_hook(lambda _, arguments: entered.append(arguments[0].dtype))
    result = fit(dataset, model, LinkNeighborSampler(dataset.graph, [2]), epochs=1, precision=precision)
    assert set(entered) == {dtype}
    assert result.test["roc_auc"] > 0


@pytest.mark.parametrize("loss", ["bce", "bpr", "softmax"])
def test_a_rank_without_a_share_of_a_step_adds_nothing(loss: str):
    dataset = easy_recommendations()
    num_pairs = dataset.train_edges.shape[1]
    model = LinkModel(LightGCN(8, 1), DotDecoder(), NodeEmbedding(70, 8))
    settings = TrainingSettings(loss=loss, embedding_penalty=0.1)  # type: ignore[arg-type]
    sampler = LinkNeighborSampler(dataset.graph, [3], 2)
    sums = []
    for rank, world_size in ((0, 1), (0, 2), (1, 2)):
        # The second step has one pair, which is the first rank's.
        loader = DataLoader(dataset, sampler, batch_size=num_pairs - 1, rank=rank, world_size=world_size)
        summed = task_of(dataset, settings).batch_loss(model, loader, torch.device("cpu"))
        last = list(loader)[-1]
        model.zero_grad()
        total = summed(model, last)
        total.backward()
        sums.append(float(total.detach()))
    assert last.edge_labels is not None
    assert last.edge_labels.numel() == 0
    assert sums[0] == sums[1] > 0
    assert sums[2] == 0
    # Reducers of gradients wait for every parameter.
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in model.parameters())


@pytest.mark.skipif(not os.environ.get("GNNFAST_DATA"), reason="GNNFAST_DATA names no folder with the real graphs")
@pytest.mark.slow
def test_hidden_citations_of_cora_are_found():
    dataset = link_split(planetoid("Cora"))
    torch.manual_seed(0)
    model = LinkModel(GNN(dataset.num_features, 64, 2, 64), DotDecoder())
    sampler = LinkNeighborSampler(dataset.graph, [10, 10])
    result = fit(dataset, model, sampler, batch_size=1024, epochs=50, evaluate_every=10)
    assert result.test["roc_auc"] > 0.9
