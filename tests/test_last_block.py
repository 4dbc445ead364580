"""The last block where it is read: the whole stack's numbers at that position, and their gradients."""

import numpy as np
import pytest
from formulas import attention_parameters, block_parameters

from miniclip.attention import causal_mask, self_attention
from miniclip.last_block import residual_block_at, self_attention_at, transformer_at
from miniclip.layers import gelu, quick_gelu
from miniclip.transformer import residual_block, transformer
from miniclip.tree import flatten


def assert_the_same_there(whole, there, at, dy):
    """Two layers, (output, backward): the first everywhere, the second at position at[n] of row n."""
    (y_whole, backward_whole), (y, backward) = whole, there
    here = np.arange(len(y)), at
    assert y.shape == dy.shape and np.allclose(y, y_whole[here], rtol=1e-13, atol=1e-13)
    everywhere = np.zeros_like(y_whole)
    everywhere[here] = dy
    expected, found = flatten(backward_whole(everywhere)), flatten(backward(dy))
    assert found.keys() == expected.keys()
    assert all(np.allclose(found[name], expected[name], rtol=1e-11, atol=1e-12) for name in found)


@pytest.mark.parametrize("n, t, width, heads", [(2, 5, 8, 2), (1, 3, 6, 1), (3, 1, 8, 4), (1, 1, 4, 4)])
@pytest.mark.parametrize("causal", [False, True])
def test_attention_of_one_position(prove, normal, rng, n, t, width, heads, causal):
    x, p, at = normal(n, t, width), attention_parameters(normal, width), rng.integers(0, t, n)
    mask = causal_mask(t, np, x.dtype) if causal else None
    there = self_attention_at(x, p, heads, at, mask)
    assert_the_same_there(self_attention(x, p, heads, mask), there, at, normal(n, width))
    prove(self_attention_at, x, p, heads, at, mask, exclude=["mask"])


@pytest.mark.parametrize("activation", [quick_gelu, gelu])
def test_a_block_at_one_position(prove, normal, rng, activation):
    x, p, at = normal(3, 4, 6), block_parameters(normal, 6), rng.integers(0, 4, 3)
    there = residual_block_at(x, p, 2, at, None, activation)
    assert_the_same_there(residual_block(x, p, 2, None, activation), there, at, normal(3, 6))
    prove(residual_block_at, x, p, 2, at, None, activation, entries=8)


@pytest.mark.parametrize("blocks", [1, 3])
@pytest.mark.parametrize("recompute", [False, True])
def test_a_stack_at_one_position(prove, normal, rng, blocks, recompute):
    x, p = normal(3, 5, 4), {"resblocks": [block_parameters(normal, 4) for _ in range(blocks)]}
    mask, at = causal_mask(5, np, x.dtype), rng.integers(0, 5, 3)
    there = transformer_at(x, p, 2, at, mask, quick_gelu, recompute)
    assert_the_same_there(transformer(x, p, 2, mask), there, at, normal(3, 4))
    prove(transformer_at, x, p, 2, at, mask, gelu, recompute, exclude=["mask"], entries=3)


def test_what_does_not_fit_is_refused(normal):
    with pytest.raises(ValueError, match="width 8 cannot be split into 3 heads"):
        self_attention_at(normal(1, 2, 8), attention_parameters(normal, 8), 3, np.zeros(1, int))
    with pytest.raises(ValueError, match="layers must be at least 1"):
        transformer_at(normal(2, 3, 4), {"resblocks": []}, 2, np.zeros(2, int))
