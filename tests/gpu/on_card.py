"""The same computation on NumPy's arrays and on a card's, for tests."""

import inspect

import numpy as np

from miniclip.backend import array_module
from miniclip.gradcheck.random_inputs import RandomInputs
from miniclip.optim import AdamW
from miniclip.train_step import loss_and_gradient
from miniclip.tree import Flat, flatten, to_device, tree_map


def sent(value, send):
    """An argument of a layer with its arrays on the card."""
    if isinstance(value, dict):
        return {key: sent(part, send) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(sent(part, send) for part in value)
    return send(value) if isinstance(value, (np.ndarray, np.floating)) else value


def cotangent(shape):
    """The dy of `forward_and_backward`."""
    return np.random.default_rng([3, 1]).standard_normal(shape)


def forward_and_backward(f, args, send):
    """y and all gradients of y, backward = f(*args), arrays sent first -> {name: array}."""
    y, backward = f(*sent(args, send))
    dy = send(cotangent(y.shape))
    gradients = backward(dy) if inspect.signature(backward).parameters else backward()
    return {"y": y, **flatten(gradients, "gradient.")}


def assert_same(theirs, ours, tolerance):
    """CuPy's arrays, all of them and of the same dtypes, hold NumPy's numbers, to a part of the largest of them all."""
    assert theirs.keys() == ours.keys()
    largest = max(np.abs(mine).max(initial=1) for mine in ours.values() if mine is not None)
    for name, mine in ours.items():
        if mine is None:
            assert theirs[name] is None
            continue
        assert array_module(theirs[name]).__name__ == "cupy", f"{name} is no CuPy array"
        assert (theirs[name].shape, theirs[name].dtype) == (mine.shape, mine.dtype), name
        np.testing.assert_allclose(theirs[name].get(), mine, rtol=0, atol=tolerance * largest, err_msg=name)


def problem(config, device="cpu", seed=3, sizes=(4, 3), dtype=np.float32):
    """Random parameters of a model, and micro-batches of so many pairs: pictures on the device, tokens on the host."""
    draw = RandomInputs(seed)
    params = Flat(to_device(tree_map(lambda leaf: leaf.astype(dtype), draw.parameters(config)), device))
    drawn = [(draw.images(n, config).astype(np.float32), draw.tokens(n)) for n in sizes]
    return params, [(to_device(images, device), tokens) for images, tokens in drawn]


def training(config, device, dtype=np.float32, recompute=False):
    """step() -> what `loss_and_gradient` gives, and the norm; the optimiser."""
    params, micro_batches = problem(config, device, dtype=dtype)
    gradient, optimizer = params.like(params.vector.copy()), AdamW(params, ema_decay=0.9)

    def step():
        result = loss_and_gradient(params.tree, micro_batches, config, gradient, recompute=recompute)
        return result | {"norm": optimizer.step(gradient, 1e-3)}

    return step, optimizer
