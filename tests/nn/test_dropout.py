import pytest
import torch

from gnnfast.nn.dropout import Dropout, dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.6, 0.93])
@pytest.mark.parametrize("shape", [(1000, 333), (99_999,)])
def test_values_are_dropped_with_probability_p_and_the_mean_is_kept(p, shape):
    torch.manual_seed(0)
    x = torch.ones(shape, dtype=torch.float64)

    out = dropout(x, p)

    kept = out != 0
    standard_error = (p * (1 - p) / x.numel()) ** 0.5
    assert abs(float(kept.double().mean()) - (1 - p)) < 4 * standard_error + 2**-16
    assert out[kept].unique().numel() == 1
    assert float(out[kept][0]) == pytest.approx(1 / (1 - p), rel=1e-3)
    # Of the four values that one draw decides on, none says anything about another.
    pairs = kept.view(-1)[: x.numel() // 4 * 4].view(-1, 4).double()
    correlations = torch.corrcoef(pairs.T) - torch.eye(4, dtype=torch.float64)
    assert float(correlations.abs().max()) < 5 / (x.numel() / 4) ** 0.5


def test_the_gradient_goes_where_the_value_went():
    x = torch.randn(100, 7, requires_grad=True)

    out = dropout(x, 0.4)
    out.sum().backward()

    torch.testing.assert_close(x.grad * x, out)


def test_the_seed_decides():
    x = torch.ones(1000)
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(dropout(x, 0.5))

    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_type_stays(dtype):
    assert dropout(torch.ones(100, dtype=dtype), 0.5).dtype == dtype


def test_the_ends_are_torchs():
    x = torch.randn(50)
    assert torch.equal(dropout(x, 0.0), x)
    assert torch.equal(dropout(x, 1.0), torch.zeros(50))
    assert torch.equal(Dropout(0.5).eval()(x), x)
    assert dropout(torch.empty(0, 3), 0.5).shape == (0, 3)
    with pytest.raises(ValueError, match="dropout probability"):
        dropout(x, 1.5)
