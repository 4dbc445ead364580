"""Wrong MLPs, blocks, tokens and readings."""

import numpy as np

from miniclip.attention import self_attention
from miniclip.conv import conv2d
from miniclip.layers import layer_norm, linear, quick_gelu, relu
from miniclip.transformer import mlp as right_mlp

from . import bug

# ------------------------------------------------------------------------------------------ the MLP


def two_layers(x, p, activation, turn):
    """An MLP whose backward is turn(dy, c_fc, act, c_proj)."""
    h, c_fc = linear(x, **p["c_fc"])
    h, act = activation(h)
    y, c_proj = linear(h, **p["c_proj"])
    return y, lambda dy: turn(dy, c_fc, act, c_proj)


@bug("mlp", "slope, missing term, mask")
def activation_forgotten_back(x, p, activation=quick_gelu):
    def turn(dy, c_fc, act, c_proj):
        d, second = c_proj(dy)
        dx, first = c_fc(d)
        return dx, {"c_fc": first, "c_proj": second}

    return two_layers(x, p, activation, turn)


def in_turn(dy, c_fc, act, c_proj):
    d, second = c_proj(dy)
    dx, first = c_fc(act(d))
    return dx, {"c_fc": first, "c_proj": second}


@bug("mlp", "slope")
def always_relu(x, p, activation=quick_gelu):
    return two_layers(x, p, relu, in_turn)


@bug("mlp", "missing term")
def no_activation(x, p, activation=quick_gelu):
    h, c_fc = linear(x, **p["c_fc"])
    y, c_proj = linear(h, **p["c_proj"])
    return y, lambda dy: (c_fc(c_proj(dy)[0])[0], {})


@bug("mlp", "slope")
def always_quick(x, p, activation=quick_gelu):
    return two_layers(x, p, quick_gelu, in_turn)


@bug("mlp", "shortcut")
def adds_x(x, p, activation=quick_gelu):
    y, back = two_layers(x, p, activation, in_turn)

    def backward(dy):
        dx, grads = back(dy)
        return dx + dy, grads

    return x + y, backward


@bug("mlp", "shortcut, missing term, unknown")
def adds_dy(x, p, activation=quick_gelu):
    y, back = two_layers(x, p, activation, in_turn)

    def backward(dy):
        dx, grads = back(dy)
        return dx + dy, grads

    return y, backward


@bug("mlp", "")
def gradients_exchanged(x, p, activation=quick_gelu):
    y, back = two_layers(x, p, activation, in_turn)

    def backward(dy):
        dx, grads = back(dy)
        return dx, {"c_fc": grads["c_proj"], "c_proj": grads["c_fc"]}

    return y, backward


# ------------------------------------------------------------------------------------------ the block


def block(x, p, heads, mask, activation, turn, post=False):
    """A residual block whose backward is turn(dy, ln_1, attn, ln_2, mlp) -> dx and the four gradients."""
    h, ln_1 = layer_norm(x, **p["ln_1"])
    h, attn = self_attention(h, p["attn"], heads, mask)
    x1 = x + h
    h, ln_2 = layer_norm(x1, **p["ln_2"])
    h, mlp_ = right_mlp(h, p["mlp"], activation)

    def backward(dy):
        dx, *grads = turn(dy, ln_1, attn, ln_2, mlp_)
        return dx, dict(zip(("ln_1", "attn", "ln_2", "mlp"), grads))

    return x1 + h, backward


def turn(first=1, second=1, exchanged=False, past=0):
    """How the gradient passes the two halves: how often each shortcut is added."""

    def back(dy, ln_1, attn, ln_2, mlp_):
        d, d_mlp = mlp_(dy)
        d, d_2 = ln_2(d)
        dx1 = d + second * dy
        d, d_attn = attn(dx1)
        d, d_1 = ln_1(d)
        dx = d + first * dx1 + past * dy
        return (dx, d_2, d_attn, d_1, d_mlp) if exchanged else (dx, d_1, d_attn, d_2, d_mlp)

    return back


@bug("residual_block", "shortcut")
def first_shortcut_forgotten(x, p, heads, mask=None, activation=quick_gelu):
    return block(x, p, heads, mask, activation, turn(first=0))


@bug("residual_block", "shortcut, missing term")
def second_shortcut_forgotten(x, p, heads, mask=None, activation=quick_gelu):
    return block(x, p, heads, mask, activation, turn(second=0))


@bug("residual_block", "shortcut, missing term")
def no_shortcut_back(x, p, heads, mask=None, activation=quick_gelu):
    return block(x, p, heads, mask, activation, turn(0, 0))


@bug("residual_block", "shortcut, missing term, k times")
def dy_past_both(x, p, heads, mask=None, activation=quick_gelu):
    return block(x, p, heads, mask, activation, turn(past=1))


@bug("residual_block", "shortcut, missing term")
def dy_past_the_first(x, p, heads, mask=None, activation=quick_gelu):
    return block(x, p, heads, mask, activation, turn(first=0, past=1))


@bug("residual_block", "swapped")
def norms_exchanged(x, p, heads, mask=None, activation=quick_gelu):
    return block(x, p, heads, mask, activation, turn(exchanged=True))


@bug("residual_block", "permuted")
def post_norm(x, p, heads, mask=None, activation=quick_gelu):
    h = self_attention(x, p["attn"], heads, mask)[0]
    x1 = layer_norm(x + h, **p["ln_1"])[0]
    h = right_mlp(x1, p["mlp"], activation)[0]
    return layer_norm(x1 + h, **p["ln_2"])[0], lambda dy: None


@bug("residual_block", "missing term")
def mlp_reads_x(x, p, heads, mask=None, activation=quick_gelu):
    h = self_attention(layer_norm(x, **p["ln_1"])[0], p["attn"], heads, mask)[0]
    return x + h + right_mlp(layer_norm(x, **p["ln_2"])[0], p["mlp"], activation)[0], lambda dy: None


@bug("residual_block", "mask")
def mask_forgotten(x, p, heads, mask=None, activation=quick_gelu):
    return block(x, p, heads, None, activation, turn())


@bug("residual_block", "shortcut")
def normalised_shortcut(x, p, heads, mask=None, activation=quick_gelu):
    h = layer_norm(x, **p["ln_1"])[0]
    x1 = h + self_attention(h, p["attn"], heads, mask)[0]
    h = layer_norm(x1, **p["ln_2"])[0]
    return h + right_mlp(h, p["mlp"], activation)[0], lambda dy: None


@bug("residual_block", "")
def in_place(x, p, heads, mask=None, activation=quick_gelu):
    h, ln_1 = layer_norm(x, **p["ln_1"])
    h, attn = self_attention(h, p["attn"], heads, mask)
    x1 = x + h
    h, ln_2 = layer_norm(x1, **p["ln_2"])
    h, mlp_ = right_mlp(h, p["mlp"], activation)

    def backward(dy):
        d, d_mlp = mlp_(dy)
        d, d_2 = ln_2(d)
        dy += d
        d, d_attn = attn(dy)
        d, d_1 = ln_1(d)
        dy += d
        return dy, {"ln_1": d_1, "attn": d_attn, "ln_2": d_2, "mlp": d_mlp}

    return x1 + h, backward


# ------------------------------------------------------------------------------------------ a picture becomes tokens


def tokens(images, p, position=None, first=None, back=None, join=None):
    n, (d, _, size, _) = len(images), p["conv1"]["weight"].shape
    grid, conv1 = conv2d(images.transpose(0, 2, 3, 1), p["conv1"]["weight"], stride=size)
    patches = grid.reshape(n, -1, d)
    cls = np.tile(p["class_embedding"], (n, 1, 1))
    x = np.concatenate([cls, patches], 1) + p["positional_embedding"] if join is None else join(cls, patches, p)

    def backward(dx):
        dpatches = dx[:, 1:].reshape(grid.shape) if back is None else back(dx, grid.shape)
        dimages, d_conv1 = conv1(dpatches)
        grads = {
            "conv1": d_conv1,
            "class_embedding": (first or (lambda dx: dx[:, 0].sum(0)))(dx),
            "positional_embedding": (position or (lambda dx: dx.sum(0)))(dx),
        }
        return dimages.transpose(0, 3, 1, 2), grads

    return x, backward


@bug("picture_tokens", "1/N, factor, ½")
def positions_averaged(images, p):
    return tokens(images, p, position=lambda dx: dx.mean(0))


@bug("picture_tokens", "1/N, factor, ½")
def class_averaged(images, p):
    return tokens(images, p, first=lambda dx: dx[:, 0].mean(0))


@bug("picture_tokens", "wrong axis, missing term, overwritten, unknown")
def class_of_one_picture(images, p):
    return tokens(images, p, first=lambda dx: dx[0, 0])


@bug("picture_tokens", "never accumulated, some indices, missing term")
def class_without_a_position(images, p):
    return tokens(images, p, position=lambda dx: np.concatenate([0 * dx[0, :1], dx[:, 1:].sum(0)]))


@bug("picture_tokens", "turned, permuted, some indices")
def shifted_by_one(images, p):
    return tokens(images, p, back=lambda dx, grid: dx[:, :-1].reshape(grid))


@bug("picture_tokens", "permuted")
def class_last(images, p):
    return tokens(images, p, join=lambda cls, patches, p: np.concatenate([patches, cls], 1) + p["positional_embedding"])


@bug("picture_tokens", "missing term")
def no_positions(images, p):
    return tokens(images, p, join=lambda cls, patches, p: np.concatenate([cls, patches], 1))


@bug("picture_tokens", "permuted, turned")
def grid_transposed_back(images, p):
    def back(dx, grid):
        n, rows, columns, d = grid
        return dx[:, 1:].reshape(n, columns, rows, d).swapaxes(1, 2)

    return tokens(images, p, back=back)


# ------------------------------------------------------------------------------------------ reading


def reading(x, at, write):
    rows = np.arange(len(x))

    def backward(dy):
        dx = np.zeros_like(x)
        write(dx, rows, at, dy)
        return dx

    return x[rows, at], backward


def put(dx, rows, at, dy):
    dx[rows, at] = dy


def end_of(tokens, end_token):
    return np.argmax(tokens == end_token, 1)


@bug("read_at_end", "largest id")
def largest(x, tokens, end_token):
    return reading(x, tokens.argmax(-1), put)


@bug("read_at_end", "last place")
def last_place(x, tokens, end_token):
    return reading(x, np.full(len(x), x.shape[1] - 1), put)


@bug("read_at_end", "last end")
def last_end(x, tokens, end_token):
    return reading(x, x.shape[1] - 1 - end_of(tokens[:, ::-1], end_token), put)


@bug("read_at_end", "one before")
def before_the_end(x, tokens, end_token):
    return reading(x, end_of(tokens, end_token) - 1, put)


@bug("read_at_end", "some indices, overwritten, wrong axis, missing term, permuted")
def every_row_at_every_end(x, tokens, end_token):
    def write(dx, rows, at, dy):
        dx[:, at] = dy

    return reading(x, end_of(tokens, end_token), write)


@bug("read_at_end", "some indices, mask, missing term, unknown, wrong axis")
def to_all_places(x, tokens, end_token):
    def write(dx, rows, at, dy):
        dx += dy[:, None]

    return reading(x, end_of(tokens, end_token), write)


@bug("read_at_end", "some indices, mask, k times, missing term, overwritten")
def to_all_ends(x, tokens, end_token):
    def write(dx, rows, at, dy):
        dx += dy[:, None] * (tokens == end_token)[..., None]

    return reading(x, end_of(tokens, end_token), write)
