"""Attention: its equation, its masks and its gradients."""

import math

import numpy as np
import pytest
from formulas import attention_by_loops, attention_parameters, pool_by_loops, pool_parameters

from miniclip.attention import attend, attention_pool, causal_mask, self_attention

SIZES = [(2, 5, 8, 2), (1, 3, 6, 1), (3, 1, 8, 4), (1, 1, 4, 4)]  # batch, tokens, width, heads


@pytest.mark.parametrize("n, t, width, heads", SIZES)
@pytest.mark.parametrize("causal", [False, True])
def test_self_attention_is_a_loop_over_heads(prove, normal, n, t, width, heads, causal):
    x, p = normal(n, t, width), attention_parameters(normal, width)
    mask = causal_mask(t, np, x.dtype) if causal else None
    y, _ = self_attention(x, p, heads, mask)
    assert np.allclose(y, attention_by_loops(x, p, heads, causal), rtol=1e-12, atol=1e-12)
    prove(self_attention, x, p, heads, mask, exclude=["mask"])


def test_attend_with_a_mask_for_each_row(prove, normal):
    """As the last block asks: one query a row, each with a mask of its own."""
    q, k, v = normal(3, 2, 1, 4), normal(3, 2, 5, 4), normal(3, 2, 5, 4)
    mask = causal_mask(5, np, q.dtype)[[0, 4, 2]][:, None, None]
    y, _ = attend(q, k, v, mask)
    assert np.allclose(y[0, :, 0], v[0, :, 0])  # the first position sees nothing but itself
    alone, _ = attend(q[2:], k[2:, :, :3], v[2:, :, :3])
    assert np.allclose(y[2:], alone, rtol=1e-13)
    prove(attend, q, k, v, mask, exclude=["mask"])


def test_a_bias_on_the_keys_does_nothing(normal):
    x, p = normal(2, 5, 8), attention_parameters(normal, 8)
    y, backward = self_attention(x, p, 2)
    _, grads = backward(normal(2, 5, 8))
    assert np.abs(grads["in_proj_bias"][8:16]).max() < 1e-13
    p["in_proj_bias"][8:16] += 3
    assert np.allclose(self_attention(x, p, 2)[0], y)


def test_the_causal_mask_hides_the_future_exactly(normal):
    assert causal_mask(3, np, np.float32).dtype == np.float32
    assert (causal_mask(3, np, float) == [[0, -math.inf, -math.inf], [0, 0, -math.inf], [0, 0, 0]]).all()
    x, p = normal(2, 6, 8), attention_parameters(normal, 8)
    mask = causal_mask(6, np, x.dtype)
    y, backward = self_attention(x, p, 2, mask)
    changed = x.copy()
    changed[:, 4:] = 1e3
    assert (self_attention(changed, p, 2, mask)[0][:, :4] == y[:, :4]).all()
    dy = normal(2, 6, 8)
    dy[:, 4:] = 0
    assert (backward(dy)[0][:, 4:] == 0).all()


def test_the_causal_mask_cannot_be_outrun_by_large_scores(normal):
    p = attention_parameters(normal, 4)
    p["in_proj_weight"] *= 1e4
    x = normal(1, 3, 4)
    first, _ = self_attention(x, p, 1, causal_mask(3, np, x.dtype))
    alone, _ = self_attention(x[:, :1], p, 1, causal_mask(1, np, x.dtype))
    assert np.allclose(first[:, :1], alone)


def test_attention_without_a_mask_knows_no_order(normal, rng):
    x, p = normal(2, 6, 8), attention_parameters(normal, 8)
    order = rng.permutation(6)
    assert np.allclose(self_attention(x[:, order], p, 2)[0], self_attention(x, p, 2)[0][:, order])


# batch, height, width, channels, heads, out
@pytest.mark.parametrize(
    "n, h, w, channels, heads, out", [(2, 2, 3, 8, 2, 5), (1, 1, 1, 6, 3, 4), (3, 2, 2, 4, 1, 4), (1, 3, 3, 8, 8, 2)]
)
def test_attention_pool_is_plain_attention_of_one_query(prove, normal, n, h, w, channels, heads, out):
    x, p = normal(n, h, w, channels), pool_parameters(normal, h * w, channels, out)
    assert np.allclose(attention_pool(x, p, heads)[0], pool_by_loops(x, p, heads), rtol=1e-12, atol=1e-12)
    prove(attention_pool, x, p, heads)


def test_what_does_not_fit_is_refused(normal):
    with pytest.raises(ValueError, match="width 8 cannot be split into 3 heads"):
        self_attention(normal(1, 2, 8), attention_parameters(normal, 8), 3)
    with pytest.raises(ValueError, match="width 8 cannot be split into 3 heads"):
        attention_pool(normal(1, 2, 2, 8), pool_parameters(normal, 4, 8, 5), 3)
    with pytest.raises(ValueError, match="made for 4 pixels, the picture has 6"):
        attention_pool(normal(1, 2, 3, 8), pool_parameters(normal, 4, 8, 5), 2)
