"""Does a `Layer` say what the user's function computes? Its gradients against central differences of its own runs."""

import numpy as np


def assert_right(layer, seed=0):
    """Assert that every gradient of a layer is the slope of its forward pass, and that nothing was written to."""
    rng = np.random.default_rng([seed, 17])
    run = layer.run(layer.leaves)
    cotangents = [np.asarray(1.0) if layer.is_loss else np.asarray(rng.standard_normal(y.shape)) for y in run.outputs]
    gradients = run.pull(cotangents)
    assert run.written() == []
    assert set(gradients) <= set(layer.leaves)
    for name in layer.names:
        leaf = layer.leaves[name]
        assert gradients[name].shape == leaf.shape, name
        u = rng.standard_normal(leaf.shape)
        there, back = (layer.run({name: leaf + h * u}).outputs for h in (1e-6, -1e-6))
        slope = sum((c * (a - b)).sum() for c, a, b in zip(cotangents, there, back)) / 2e-6
        assert abs(slope - (gradients[name] * u).sum()) <= 1e-6 * max(1, abs(slope)), name
    again = run.pull(cotangents)
    assert all(np.array_equal(again[name], gradients[name]) for name in layer.names)
