"""The Transformer's block and stack: against its equations, and their gradients."""

import numpy as np
import pytest
from formulas import block_by_formula, block_parameters, mlp_by_formula, mlp_parameters

from miniclip.attention import causal_mask
from miniclip.gradcheck.contract import same_bits
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
    assert same_bits(y, y_again)
    found, expected = flatten(backward_again(dy)), flatten(backward(dy))
    assert found.keys() == expected.keys() and all(same_bits(found[name], expected[name]) for name in found)


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
