import copy

import pytest
import torch

from gnnfast.nn import NodeEmbedding
from gnnfast.training import RowAdam


def steps(optimizer_class: type[torch.optim.Optimizer], sparse: bool, ids: list[list[int]]) -> torch.Tensor:
    torch.manual_seed(0)
    embedding = NodeEmbedding(6, 3, sparse=sparse)
    optimizer = optimizer_class(embedding.parameters(), lr=0.1)  # type: ignore[call-arg]
    for some in ids:
        optimizer.zero_grad()
        embedding(torch.tensor(some)).square().sum().backward()
        optimizer.step()
    return embedding.weight.detach()


def test_sparse_steps_are_those_of_sparse_adam():
    ids = [[0, 3, 3], [3, 5], [0]]
    assert torch.allclose(steps(RowAdam, True, ids), steps(torch.optim.SparseAdam, True, ids), atol=1e-6)


def test_where_all_rows_are_touched_it_is_adam():
    ids = [[0, 1, 2, 3, 4, 5]] * 4
    expected = steps(torch.optim.Adam, False, ids)
    assert torch.allclose(steps(RowAdam, True, ids), expected, atol=1e-6)
    assert torch.equal(steps(RowAdam, False, ids), expected)


def test_dense_and_sparse_parameters_share_an_optimizer_and_its_checkpoint():
    torch.manual_seed(0)
    parts = [torch.nn.Linear(3, 2), NodeEmbedding(6, 3, sparse=True)]
    model = torch.nn.ModuleList(parts)
    optimizer = RowAdam(model.parameters(), lr=0.1)

    def step() -> None:
        optimizer.zero_grad()
        parts[0](parts[1](torch.tensor([1, 4]))).square().sum().backward()
        optimizer.step()

    step()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    saved = copy.deepcopy(optimizer.state_dict())
    step()
    after = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert all(not torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(before["1.weight"][[0, 2, 3, 5]], after["1.weight"][[0, 2, 3, 5]])
    model.load_state_dict(before)
    optimizer.load_state_dict(saved)
    step()
    assert all(torch.equal(tensor, after[name]) for name, tensor in model.state_dict().items())


def test_weight_decay_of_sparse_rows_is_refused():
    embedding = NodeEmbedding(3, 1, sparse=True)
    optimizer = RowAdam(embedding.parameters(), weight_decay=0.1)
    embedding(torch.tensor([0])).sum().backward()
    with pytest.raises(ValueError, match="use 0 with sparse gradients"):
        optimizer.step()
