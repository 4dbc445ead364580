"""Functions of torch are taken as they are: tensors, modules, and torch.autograd.Function."""

import numpy as np
import pytest
from anybodys_code import assert_right

from miniclip.gradcheck.conventions import as_layer
from miniclip.gradcheck.refusals import CannotCheck

torch = pytest.importorskip("torch")
generator = torch.Generator().manual_seed(0)
X = torch.randn(4, 3, generator=generator, dtype=torch.float64)
W = torch.randn(3, 5, generator=generator, dtype=torch.float64)


class Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return x @ w

    @staticmethod
    def backward(ctx, dy):
        x, w = ctx.saved_tensors
        return dy @ w.T, x.T @ dy


class Times(torch.autograd.Function):
    @staticmethod
    def forward(x, n):
        return x * n

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.n = inputs[1]

    @staticmethod
    def backward(ctx, dy):
        return dy * ctx.n, None


class Doubled(Product):
    @staticmethod
    def backward(ctx, dy):
        dx, dw = Product.backward(ctx, dy)
        return dx, 2 * dw


class Misshapen(Product):
    @staticmethod
    def backward(ctx, dy):
        dx, dw = Product.backward(ctx, dy)
        return dx, dw.T


def by_hand(x, w):
    return x @ w, lambda dy: (dy @ w.T, x.T @ dy)


torch.manual_seed(0)
NORMED = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.BatchNorm1d(5), torch.nn.Tanh())


@pytest.mark.parametrize("f, args, names", [
    (lambda x, w: torch.tanh(x @ w), (X, W), "x w"),
    (lambda x, p: x @ p["w"], (X, {"w": W}), "x p.w"),
    (lambda x: (torch.sin(x), torch.cos(x)), (X,), "x"),
    (Product, (X, W), "x w"),
    (Product.apply, (X, W), "x w"),
    (Times, (X, 3), "x"),
    (by_hand, (X, W), "x w"),
    (NORMED, (X.float(),), "input 0.weight 0.bias 1.weight 1.bias"),
    (torch.nn.Dropout(0.5), (X,), "input"),
    (torch.nn.CrossEntropyLoss(), (X, torch.tensor([0, 2, 1, 0])), "input"),
    (torch.nn.functional.softmax, (X, 1), "input"),
])  # fmt: skip
def test_what_is_of_torch(f, args, names):
    layer = as_layer(f, args)
    assert layer.names == names.split()
    assert_right(layer)


def test_tensors_in_other_manners():
    assert_right(as_layer(lambda x: (x * x).sum(), (X,), gradient=lambda x: 2 * x))
    cached = as_layer(lambda x: (x * x, x), (X,), backward=lambda dout, x: 2 * dout * x)
    assert_right(cached)


def test_a_wrong_backward_is_not_hidden_by_autograd():
    layer = as_layer(Doubled, (X, W))
    right = as_layer(Product, (X, W)).first.pull([np.ones((4, 5))])
    wrong = layer.first.pull([np.ones((4, 5))])
    assert np.allclose(wrong["w"], 2 * right["w"]) and np.array_equal(wrong["x"], right["x"])


def test_what_is_not_used_has_no_gradient():
    layer = as_layer(lambda x, w: x * x, (X, W))
    assert layer.names == ["x", "w"] and layer.first.pull([np.ones((4, 3))]).keys() == {"x"}


def test_tensors_are_complex_or_single_where_that_is_asked_for():
    layer = as_layer(lambda x: x * x, (X,))
    run = layer.run({"x": X.numpy() + 1e-30j})
    assert np.allclose(run.outputs[0].imag / 1e-30, 2 * X.numpy(), rtol=1e-14)
    assert layer.run({"x": X.numpy().astype(np.float32)}).outputs[0].dtype == np.float32


def test_what_is_written_to():
    def f(x):
        x *= 2
        return x * 1, lambda dy: 2 * dy

    layer = as_layer(f, (X,))
    assert layer.run(layer.leaves).written() == ["x"]


def test_a_module_is_left_as_it_was():
    before = {name: value.clone() for name, value in NORMED.state_dict().items()}
    layer = as_layer(NORMED, (X.float(),))
    assert layer.leaves["0.weight"].dtype == np.float64
    layer.run({"0.weight": np.ones((5, 3))}).pull([np.ones((4, 5))])
    assert all(torch.equal(before[name], value) for name, value in NORMED.state_dict().items())
    assert all(parameter.grad is None for parameter in NORMED.parameters())


def test_an_exception_of_the_users_is_told_as_it_was():
    with pytest.raises(CannotCheck, match=r"raised RuntimeError: mat1 and mat2 .*; it was handed x float64 \(4, 3\)"):
        as_layer(lambda x, w: x @ w, (X, X))
    layer = as_layer(lambda x: torch.relu(x), (X,))
    with pytest.raises(CannotCheck) as refusal:
        layer.run({"x": X.numpy() + 1j})
    assert isinstance(refusal.value.__cause__, RuntimeError)
    assert_right(layer)


def test_a_gradient_of_the_wrong_shape():
    with pytest.raises(
        CannotCheck, match="the backward of Misshapen.* raised RuntimeError: .*invalid gradient"
    ) as refusal:
        as_layer(Misshapen, (X, W))
    assert isinstance(refusal.value.__cause__, RuntimeError)


def test_a_gradient_written_by_hand_is_the_one_that_is_checked():
    """And not that of autograd, which would always be right; but a module's second output is no gradient."""
    right = as_layer(lambda w: ((w * w).sum(), 2 * w), (X,))
    wrong = as_layer(lambda w: ((w * w).sum(), 3 * w), (X,))
    assert_right(right)
    assert right.is_loss and wrong.is_loss
    with pytest.raises(AssertionError, match="w"):
        assert_right(wrong)
    both = as_layer(lambda x, w: ((x @ w).sum(), x @ w), (X, W))
    assert not both.is_loss and len(both.first.outputs) == 2


def test_an_array_beside_tensors_has_no_gradient():
    layer = as_layer(lambda x, k: x * torch.as_tensor(k), (X, np.ones(3)))
    assert layer.first.pull([np.ones((4, 3))])["k"] is None


def test_an_output_that_autograd_does_not_follow():
    with pytest.raises(CannotCheck, match="autograd does not follow the output: it was detached, made anew, or "):
        as_layer(lambda x: (x * x).detach(), (X,))
