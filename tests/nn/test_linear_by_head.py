"""Products head by head against torch's einsum."""

import pytest
import torch
from torch.testing import assert_close

from gnnfast.nn.linear_by_head import linear_by_head


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("num_rows", [0, 3, 2500])
def test_each_head_is_multiplied_with_its_own_weight(dtype: torch.dtype, num_rows: int):
    generator = torch.Generator().manual_seed(0)
    x, weight, g = (
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in ((num_rows, 3, 48), (3, 40, 48), (num_rows, 3, 40))
    )
    inputs = [tensor.to(dtype).requires_grad_() for tensor in (x, weight)]
    out = linear_by_head(*inputs)
    gradients = torch.autograd.grad(out, inputs, g.to(dtype))
    expected = torch.einsum("nhi,hoi->nho", x, weight)
    expected_gradients = torch.einsum("nho,hoi->nhi", g, weight), torch.einsum("nho,nhi->hoi", g, x)
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-3, torch.bfloat16: 5.0}[dtype]
    for ours, theirs in zip((out, *gradients), (expected, *expected_gradients), strict=True):
        assert ours.dtype == dtype
        assert_close(ours.double(), theirs, rtol=1e-2, atol=tolerance)


def test_the_operators_keep_the_promises_of_torch_operators():
    x, weight, g = torch.randn(20, 3, 8), torch.randn(3, 5, 8), torch.randn(20, 3, 5)
    torch.library.opcheck(torch.ops.gnnfast.linear_by_head, (x.requires_grad_(), weight.requires_grad_()))
    torch.library.opcheck(torch.ops.gnnfast.linear_by_head_weight_gradient, (g.requires_grad_(), x))


def test_gradients_can_be_differentiated_again():
    x, weight = torch.randn(2500, 3, 48).requires_grad_(), torch.randn(3, 40, 48).requires_grad_()
    seconds = []
    for multiply in (linear_by_head, lambda x, w: torch.einsum("nhi,hoi->nho", x, w)):
        gradients = torch.autograd.grad(multiply(x, weight).square().mean(), [x, weight], create_graph=True)
        seconds.append(torch.autograd.grad(sum(g.square().mean() for g in gradients), [x, weight]))
    for ours, theirs in zip(*seconds, strict=True):
        assert_close(ours, theirs, rtol=1e-3, atol=1e-5)
