import tracemalloc

import numpy as np
import pytest
from formulas import block_by_formula, block_parameters, mlp_by_formula, mlp_parameters

from miniclip.attention import causal_mask
from miniclip.layers import gelu, quick_gelu
from miniclip.transformer import activation_of, mlp, residual_block, transformer
from miniclip.tree import flatten


@pytest.mark.parametrize("activation, exact", [(quick_gelu, False), (gelu, True)])
def test_mlp(prove, normal, activation, exact):
    x, p = normal(2, 3, 4), mlp_parameters(normal, 4)
    assert np.allclose(mlp(x, p, activation)[0], mlp_by_formula(x, p, exact), rtol=1e-13, atol=1e-13)
    prove(mlp, x, p, activation)


@pytest.mark.parametrize("n, t", [(2, 5), (1, 1)])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("activation", [quick_gelu, gelu])
def test_residual_block(prove, normal, n, t, causal, activation):
    x, p = normal(n, t, 6), block_parameters(normal, 6)
    mask = causal_mask(t, np, x.dtype) if causal else None
    y, _ = residual_block(x, p, 2, mask, activation)
    assert np.allclose(y, block_by_formula(x, p, 2, causal, activation is gelu), rtol=1e-12, atol=1e-12)
    prove(residual_block, x, p, 2, mask, activation, exclude=["mask"], entries=8)


@pytest.mark.parametrize("recompute", [False, True])
def test_the_stack(prove, normal, recompute):
    x, p = normal(2, 4, 4), {"resblocks": [block_parameters(normal, 4) for _ in range(3)]}
    expected = x
    for block in p["resblocks"]:
        expected = block_by_formula(expected, block, 2, causal=True)
    mask = causal_mask(4, np, x.dtype)
    assert np.allclose(transformer(x, p, 2, mask)[0], expected, rtol=1e-12, atol=1e-12)
    prove(transformer, x, p, 2, mask, quick_gelu, recompute, exclude=["mask"], entries=3)


def test_no_blocks_change_nothing(normal):
    x, dy = normal(2, 3, 4), normal(2, 3, 4)
    y, backward = transformer(x, {"resblocks": []}, 2)
    assert (y == x).all()
    dx, grads = backward(dy)
    assert (dx == dy).all() and grads == {"resblocks": []}


def test_recomputation_gives_the_same_bits(normal):
    x, p, dy = normal(2, 4, 4), {"resblocks": [block_parameters(normal, 4) for _ in range(3)]}, normal(2, 4, 4)
    y, backward = transformer(x, p, 2)
    y_again, backward_again = transformer(x, p, 2, recompute=True)
    assert (y == y_again).all()
    (dx, grads), (dx_again, grads_again) = backward(dy), backward_again(dy)
    assert (dx == dx_again).all()
    for one, other in zip(grads["resblocks"], grads_again["resblocks"]):
        assert (one["attn"]["in_proj_weight"] == other["attn"]["in_proj_weight"]).all()
        assert (one["mlp"]["c_fc"]["bias"] == other["mlp"]["c_fc"]["bias"]).all()


@pytest.mark.parametrize("recompute", [False, True])
def test_one_position_is_what_the_whole_stack_says_there(prove, normal, rng, recompute):
    x, p = normal(3, 5, 4), {"resblocks": [block_parameters(normal, 4) for _ in range(2)]}
    mask, at = causal_mask(5, np, x.dtype), rng.integers(0, 5, 3)
    whole, backward_whole = transformer(x, p, 2, mask)
    y, backward = transformer(x, p, 2, mask, recompute=recompute, at=at)
    assert y.shape == (3, 1, 4)
    assert np.allclose(y[:, 0], whole[np.arange(3), at], rtol=1e-13, atol=1e-13)
    dy, everywhere = normal(3, 1, 4), np.zeros_like(x)
    everywhere[np.arange(3), at] = dy[:, 0]
    for one, other in zip(flatten(backward(dy)).values(), flatten(backward_whole(everywhere)).values()):
        assert np.allclose(one, other, rtol=1e-11, atol=1e-12)
    prove(transformer, x, p, 2, mask, gelu, recompute, at, exclude=["mask"], entries=3)


def test_one_position_needs_a_block(normal):
    with pytest.raises(ValueError, match="layers must be at least 1"):
        transformer(normal(2, 3, 4), {"resblocks": []}, 2, at=np.zeros(2, int))


def test_a_backward_pass_that_is_called_once_gives_the_same_and_frees_its_blocks(normal):
    x, p, dy = normal(2, 40, 16), {"resblocks": [block_parameters(normal, 16) for _ in range(6)]}, normal(2, 40, 16)
    expected = flatten(transformer(x, p, 2)[1](dy))
    peaks = {}
    for once in (True, False):
        tracemalloc.start()
        _, backward = transformer(x, p, 2, once=once)
        remembered = tracemalloc.get_traced_memory()[0]
        found = flatten(backward(dy))
        peaks[once] = tracemalloc.get_traced_memory()[0] / remembered
        tracemalloc.stop()
        assert all((found[name] == expected[name]).all() for name in expected)
    assert peaks[True] < 0.5 < peaks[False]  # of what a forward pass remembers, with the gradients, is left
    _, backward = transformer(x, p, 2, once=True)
    backward(dy)
    with pytest.raises(RuntimeError, match="made to be called once"):
        backward(dy)


def test_one_block_in_two_places(prove, normal):
    """Shared weights: the two gradients add up, and neither call disturbs the other."""

    def shared(x, block):
        y, backward_all = transformer(x, {"resblocks": [block, block]}, 2)

        def backward(dy):
            dx, grads = backward_all(dy)
            first, second = grads["resblocks"]
            return dx, {"ln_1": {k: first["ln_1"][k] + second["ln_1"][k] for k in ("weight", "bias")}}

        return y, backward

    block = block_parameters(normal, 4)
    prove(shared, normal(2, 3, 4), block, exclude=["block.attn.*", "block.mlp.*", "block.ln_2.*"])


def test_the_configuration_names_the_activation():
    assert activation_of({"quick_gelu": True}) is quick_gelu
    assert activation_of({"quick_gelu": False}) is gelu
