from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from gnnfast.nn import linear as module
from gnnfast.nn.linear import Linear, linear

needs_onednn = pytest.mark.skipif(not module._has_onednn(torch.float32), reason="this torch has no oneDNN")
# Large enough for oneDNN; with rows that fill no whole piece of the weight's gradient.
ROWS, IN, OUT = 3000, 48, 40


def tensors(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes]


@needs_onednn
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 2e-2)])
def test_products_and_gradients_equal_torchs(has_bias: bool, relu: bool, dtype: torch.dtype, tolerance: float):
    x, weight, bias, g = tensors((ROWS, IN), (OUT, IN), (OUT,), (ROWS, OUT), dtype=dtype)
    inputs = [x, weight, bias] if has_bias else [x, weight]
    out = linear(*inputs, relu=relu)
    assert "gnnfast_linear" in str(out.grad_fn)
    expected = F.linear(*(tensor.double() for tensor in inputs))
    # Which side of 0 a value rounds to is not ours to tell.
    expected = expected * (out > 0) if relu else expected
    gradients = torch.autograd.grad(out, inputs, g)
    assert_close(out.double(), expected, rtol=tolerance, atol=tolerance * IN**0.5)
    for gradient, wanted in zip(gradients, torch.autograd.grad(expected, inputs, g.double()), strict=True):
        assert_close(gradient.double(), wanted.double(), rtol=tolerance, atol=tolerance * ROWS**0.5)


@needs_onednn
def test_gradients_may_be_columns_of_others():
    x, weight, wide = tensors((ROWS, IN), (OUT, IN), (ROWS, 2 * OUT))
    (gradient,) = torch.autograd.grad(linear(x, weight), weight, wide[:, OUT:])
    assert_close(gradient, wide[:, OUT:].t() @ x, rtol=1e-3, atol=1e-2)


@needs_onednn
def test_only_what_needs_a_gradient_is_kept():
    x, weight = tensors((ROWS, IN), (OUT, IN))
    assert linear(x.detach(), weight).grad_fn.saved_tensors[1] is None
    assert linear(x, weight.detach()).grad_fn.saved_tensors[0] is None
    assert linear(x, weight).grad_fn.saved_tensors[2] is None


@needs_onednn
def test_the_operators_are_sound():
    x, weight, bias, g = tensors((20, 6), (5, 6), (5,), (20, 5))
    torch.library.opcheck(module._linear, (x, weight, bias, True))
    torch.library.opcheck(module._linear, (x, weight.detach(), None, False))
    x, weight, g, out = (tensor.detach() for tensor in (x, weight, g, F.linear(x, weight).relu()))
    torch.library.opcheck(module._linear_backward, (g, x, weight, out))
    torch.library.opcheck(module._linear_backward, (g, None, weight, None))


@needs_onednn
@pytest.mark.parametrize("relu", [True, False])
def test_gradients_can_be_differentiated_again(relu: bool):
    x, weight = tensors((ROWS, IN), (OUT, IN))
    (gradient,) = torch.autograd.grad(linear(x, weight, relu=relu).square().sum(), weight, create_graph=True)
    second = torch.autograd.grad(gradient.square().sum(), [x, weight])
    expected_out = F.linear(x.double(), weight.double())
    expected_out = expected_out.relu() if relu else expected_out
    (expected,) = torch.autograd.grad(expected_out.square().sum(), weight, create_graph=True)
    for got, wanted in zip(second, torch.autograd.grad(expected.square().sum(), [x, weight]), strict=True):
        assert_close(got, wanted.float(), rtol=1e-3, atol=1e-3 * float(wanted.abs().max()))


def test_other_products_are_torchs(monkeypatch: pytest.MonkeyPatch):
    for x, weight in (
        tensors((ROWS, IN), (OUT, IN), dtype=torch.float64),  # of another type
        tensors((3, IN), (OUT, IN)),  # too small
        tensors((2, ROWS, IN), (OUT, IN)),  # of more dimensions
    ):
        assert torch.equal(linear(x, weight), F.linear(x, weight))
    monkeypatch.setattr(module, "_has_onednn", lambda dtype: False)
    x, weight = tensors((ROWS, IN), (OUT, IN))
    assert torch.equal(linear(x, weight), F.linear(x, weight))


def test_shapes_that_do_not_fit_are_named_by_torch():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        linear(*tensors((ROWS, IN), (OUT, IN + 1)))


def test_a_processor_without_bfloat16_is_not_asked_for_it(monkeypatch: pytest.MonkeyPatch):
    module._has_onednn.cache_clear()
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    try:
        x, weight = tensors((ROWS, IN), (OUT, IN), dtype=torch.bfloat16)
        assert "gnnfast" not in str(linear(x, weight).grad_fn)
    finally:
        module._has_onednn.cache_clear()


def test_tensors_without_memory_have_a_product():
    assert linear(torch.empty(ROWS, IN, device="meta"), torch.empty(OUT, IN, device="meta")).shape == (ROWS, OUT)


def test_autocast_multiplies_in_bfloat16():
    x, weight, bias = tensors((ROWS, IN), (OUT, IN), (OUT,))
    with torch.autocast("cpu", torch.bfloat16):
        out = linear(x, weight, bias)
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    assert {x.grad.dtype, weight.grad.dtype, bias.grad.dtype} == {torch.float32}


def test_the_module_has_the_parameters_of_pygs():
    layer = Linear(IN, OUT)
    x = torch.randn(ROWS, IN)
    assert_close(layer(x), F.linear(x, layer.weight, layer.bias), rtol=1e-4, atol=1e-4)


@needs_onednn
def test_any_number_of_threads_gives_the_same_bits():
    x, weight, bias, g = tensors((20_000, IN), (OUT, IN), (OUT,), (20_000, OUT))
    before = torch.get_num_threads()
    gradients = []
    try:
        for num_threads in (1, 2, 5, 1):
            torch.set_num_threads(num_threads)
            gradients.append(torch.autograd.grad(linear(x, weight, bias, relu=True), [x, weight, bias], g))
            # Threads that compute alone leave the others' number as it was.
            assert torch.get_num_threads() == num_threads
    finally:
        torch.set_num_threads(before)
    for others in gradients[1:]:
        for ours, first in zip(others, gradients[0], strict=True):
            assert torch.equal(ours, first)
