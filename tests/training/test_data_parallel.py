import logging

import pytest
import torch

from gnnfast.nn import GNN
from gnnfast.training.data_parallel import synchronize_batch_norm


@pytest.mark.parametrize("num_rows", [0, 1, 5])
def test_batch_norm_takes_any_share_of_a_step(num_rows: int, caplog: pytest.LogCaptureFixture):
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    norm = model[1]
    with caplog.at_level(logging.WARNING):
        synchronize_batch_norm(model, torch.device("cpu"))
    assert "each rank's own rows" in caplog.text

    model(torch.randn(num_rows, 3)).sum().backward()

    assert norm.training
    assert norm.running_mean.isfinite().all()
    assert bool((norm.running_mean != 0).any()) == (num_rows > 1)
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    model.eval()
    model(torch.randn(1, 3))
    assert not norm.training


def test_a_model_without_batch_norm_is_left_alone(caplog: pytest.LogCaptureFixture):
    synchronize_batch_norm(GNN(3, 4, 2, 2, norm="layer"), torch.device("cpu"))
    assert not caplog.text
