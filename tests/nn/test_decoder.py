import pytest
import torch

from gnnfast.nn import DotDecoder, MLPDecoder


@pytest.mark.parametrize("decoder", [DotDecoder(), MLPDecoder(6, 5, 3)], ids=["dot", "mlp"])
def test_scores_of_all_pairs_are_those_of_each(decoder: torch.nn.Module):
    src, dst = torch.randn(3, 6), torch.randn(4, 6)
    scores = decoder.score_all(src, dst)  # type: ignore[operator]
    assert scores.shape == (3, 4)
    pairs = torch.cartesian_prod(torch.arange(3), torch.arange(4)).T
    assert torch.allclose(scores.view(-1), decoder(src[pairs[0]], dst[pairs[1]]), atol=1e-6)
    assert torch.allclose(scores.T, decoder.score_all(dst, src), atol=1e-6)  # type: ignore[operator]


def test_the_inner_product():
    scores = DotDecoder()(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, -1.0]]))
    assert scores.tolist() == [1.0]


def test_one_linear_map_is_a_weighted_inner_product():
    decoder = MLPDecoder(2, num_layers=1)
    weight, bias = decoder.layers[0].weight, decoder.layers[0].bias
    src, dst = torch.randn(5, 2), torch.randn(5, 2)
    assert torch.allclose(decoder(src, dst), (src * dst) @ weight[0] + bias)


@pytest.mark.parametrize("sizes", [(0, 1, 1), (4, 0, 2), (4, 4, 0)])
def test_empty_decoders_are_refused(sizes: tuple[int, int, int]):
    with pytest.raises(ValueError, match="at least one layer and channel"):
        MLPDecoder(*sizes)
