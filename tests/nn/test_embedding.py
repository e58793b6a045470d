import pytest
import torch

from gnnfast.nn import GNN, DotDecoder, LinkModel, NodeEmbedding
from tests.training.graphs import awkward_graph


def test_rows_by_node_and_their_gradient():
    embedding = NodeEmbedding(5, 3)
    ids = torch.tensor([4, 0, 4])
    rows = embedding(ids)
    assert torch.equal(rows, embedding.weight[ids])
    rows.sum().backward()
    assert embedding.weight.grad is not None
    assert embedding.weight.grad[:, 0].tolist() == [1, 0, 0, 0, 2]


def test_all_rows_in_order_are_the_table_itself_and_in_another_order_are_not():
    embedding = NodeEmbedding(4, 2)
    assert embedding(torch.arange(4)) is embedding.weight
    turned = embedding(torch.tensor([3, 1, 2, 0]))
    assert torch.equal(turned[0], embedding.weight[3])


@pytest.mark.parametrize("ids", [[2, 0, 2], [0, 1, 2, 3, 4]])
def test_sparse_gradients_are_the_dense_ones(ids: list[int]):
    dense, sparse = NodeEmbedding(5, 3), NodeEmbedding(5, 3, sparse=True)
    sparse.load_state_dict(dense.state_dict())
    for embedding in (dense, sparse):
        embedding(torch.tensor(ids)).square().sum().backward()
    assert sparse.weight.grad is not None
    assert sparse.weight.grad.is_sparse
    assert torch.allclose(sparse.weight.grad.to_dense(), dense.weight.grad)  # type: ignore[arg-type]


def test_it_starts_from_a_normal_distribution():
    torch.manual_seed(0)
    weight = NodeEmbedding(4000, 8, std=0.3).weight
    assert abs(float(weight.detach().std()) - 0.3) < 0.01


@pytest.mark.parametrize("sizes", [{"num_nodes": 0}, {"num_nodes": 3, "channels": 0}, {"num_nodes": 3, "std": 0.0}])
def test_empty_tables_are_refused(sizes: dict[str, float]):
    with pytest.raises(ValueError, match="must be positive"):
        NodeEmbedding(**sizes)  # type: ignore[arg-type]


def test_a_link_model_reads_features_embeddings_or_both():
    x, ids = torch.randn(40, 4), torch.arange(40)
    pairs = torch.tensor([[0, 1], [2, 3]])
    block = awkward_graph(weighted=False).to_block()
    for features, embedding in ((x, None), (None, NodeEmbedding(40, 3)), (x, NodeEmbedding(40, 3))):
        width = (0 if features is None else 4) + (0 if embedding is None else 3)
        model = LinkModel(GNN(width, 8, 2, 6), DotDecoder(), embedding)
        scores, inputs = model(features, [block], ids, pairs)
        parts = [rows for rows in (features, None if embedding is None else embedding.weight) if rows is not None]
        assert torch.equal(inputs, torch.cat(parts, dim=1))
        rows = model.encoder(inputs, block)
        assert torch.allclose(scores, (rows[pairs[0]] * rows[pairs[1]]).sum(1))
