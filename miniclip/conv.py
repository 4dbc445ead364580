"""Convolution, batch normalisation and average pooling, for CLIP's ResNet.

Pictures are channels-last here, (N, H, W, C): the C numbers of a pixel lie side by side. So a 1 × 1
convolution is one matrix product with nothing to rearrange, and the patches of a 3 × 3 one are
gathered in long runs. Weights keep PyTorch's layout (O, C, kh, kw).
"""

from .backend import array_module, dispatch
from .checks import takes
from .layers import linear

product = linear.__wrapped__  # without its door, for what has come through that of conv2d


@takes("x (N, H, W, C), weight (O, C, kh, kw), bias (O), stride ≥ 1, padding ≥ 0")
def conv2d(x, weight, bias=None, stride=1, padding=0):
    """y[n, i, j] = b + Σ_uv W[:, :, u, v] x[n, i·stride + u − padding, j·stride + v − padding].

    -> y (N, H', W', O), H' = (H + 2·padding − kh) // stride + 1.
    backward(dy, input_gradient=True) -> (dx, grads); dx is None where it was not asked for.
    """
    out, channels, kh, kw = weight.shape
    if kh == kw == stride == 1 and padding == 0:
        return _conv1x1(x, weight, bias)
    matrix = weight.transpose(0, 2, 3, 1).reshape(out, -1)  # (O, kh·kw·C)
    patches = extract_patches(x, kh, kw, stride, padding)  # (N, H', W', kh·kw·C)
    y, _ = product(patches, matrix, bias)

    def backward(dy, input_gradient=True):
        grads = {} if bias is None else {"bias": dy.reshape(-1, out).sum(0)}
        if stride == 1 and padding < min(kh, kw) and input_gradient:
            # dx is dy convolved with the kernel turned by 180°. The same patches of dy, against x,
            # give dW: so the patches of x need not be kept, nor dx be scattered.
            dpatches = extract_patches(dy, kh, kw, 1, (kh - 1 - padding, kw - 1 - padding))
            dpatches = dpatches.reshape(-1, kh * kw * out)
            turned = weight[:, :, ::-1, ::-1].transpose(2, 3, 0, 1).reshape(-1, channels)
            dturned = dpatches.T @ x.reshape(-1, channels)  # (kh·kw·O, C)
            dweight = dturned.reshape(kh, kw, out, channels)[::-1, ::-1].transpose(2, 3, 0, 1)
            return (dpatches @ turned).reshape(x.shape), {"weight": dweight, **grads}
        rows = extract_patches(x, kh, kw, stride, padding).reshape(-1, matrix.shape[1])
        drows = dy.reshape(-1, out)
        grads["weight"] = (drows.T @ rows).reshape(out, kh, kw, channels).transpose(0, 3, 1, 2)
        if not input_gradient:
            return None, grads
        return scatter_patches(drows @ matrix, x.shape, kh, kw, stride, padding), grads

    return y, backward


def _conv1x1(x, weight, bias):
    y, backward_linear = product(x, weight[:, :, 0, 0], bias)

    def backward(dy, input_gradient=True):
        dx, grads = backward_linear(dy)
        return dx if input_gradient else None, {**grads, "weight": grads["weight"][:, :, None, None]}

    return y, backward


def extract_patches(x, kh, kw, stride=1, padding=0):
    """The kh × kw window under each output pixel: x (N, H, W, C) -> (N, H', W', kh·kw·C), a copy."""
    xp = array_module(x)
    ph, pw = (padding, padding) if isinstance(padding, int) else padding
    if ph or pw:
        n, h, w, c = x.shape
        padded = xp.zeros((n, h + 2 * ph, w + 2 * pw, c), x.dtype)
        padded[:, ph : ph + h, pw : pw + w] = x
        x = padded
    n, h, w, c = x.shape
    rows, columns = (h - kh) // stride + 1, (w - kw) // stride + 1
    if rows < 1 or columns < 1:
        raise ValueError(f"a picture of {h} × {w} is too small for a {kh} × {kw} kernel.")
    x = xp.ascontiguousarray(x)
    sn, sh, sw, sc = x.strides
    # The kw pixels of a window's row lie side by side: one run of kw·C numbers to copy.
    windows = xp.lib.stride_tricks.as_strided(x, (n, rows, columns, kh, kw * c), (sn, sh * stride, sw * stride, sh, sc))
    return windows.reshape(n, rows, columns, kh * kw * c)


def scatter_patches(patches, shape, kh, kw, stride, padding):
    """The transpose of `extract_patches`: every window is added back to where it was read."""
    xp = array_module(patches)
    n, h, w, c = shape
    rows, columns = (h + 2 * padding - kh) // stride + 1, (w + 2 * padding - kw) // stride + 1
    patches = patches.reshape(n, rows, columns, kh, kw, c)
    padded = xp.zeros((n, h + 2 * padding, w + 2 * padding, c), patches.dtype)
    for u in range(kh):
        for v in range(kw):
            padded[:, u : u + rows * stride : stride, v : v + columns * stride : stride] += patches[:, :, :, u, v]
    return padded[:, padding : padding + h, padding : padding + w]


@takes("x (N, H, W, C), weight (C), bias (C), running_mean (C), running_var (C), training flag, eps ()")
@dispatch
def batch_norm(x, weight, bias, running_mean, running_var, training=False, eps=1e-5):
    """y = γ (x − mean) / √(variance + ε) + β, per channel (Ioffe & Szegedy 2015).

    In training, mean and variance are the batch's; otherwise the running ones. These are no parameters of the loss,
    so their place in the gradients holds, in training, what a step of 0.1 has to subtract for the running average to
    move: running − batch (PyTorch's momentum 0.1 and its unbiased variance), and else zeros.
    """
    xp = array_module(x)
    shape, channels = x.shape, x.shape[-1]
    x = x.reshape(shape[0], -1)  # long rows: NumPy's inner loop is over all of a picture
    repeat = x.shape[1] // channels
    count = x.shape[0] * repeat

    def total(values):  # Σ over everything but channels
        return values.sum(0).reshape(repeat, channels).sum(0)

    def spread(values):  # (C,) -> one row
        return xp.broadcast_to(values, (repeat, channels)).reshape(-1)

    mean = total(x) / count if training else running_mean
    centred = x - spread(mean)
    var = total(centred * centred) / count if training else running_var
    inverse = 1 / xp.sqrt(var + eps)
    y = centred * spread(weight * inverse) + spread(bias)

    def backward(dy):
        dy = dy.reshape(x.shape)
        dbias = total(dy)
        dweight = total(dy * centred) * inverse
        dx = dy * spread(weight * inverse)
        grads = {"weight": dweight, "bias": dbias}
        if training:
            # Normalising removed the mean of x and its component along x̂: so it does to the gradient.
            slope = weight * inverse * inverse * dweight / count
            dx -= spread(weight * inverse * dbias / count)
            dx -= centred * spread(slope)
            unbiased = var * (count / max(count - 1, 1))
            grads |= {"running_mean": running_mean - mean, "running_var": running_var - unbiased}
        else:
            grads |= {"running_mean": xp.zeros_like(mean), "running_var": xp.zeros_like(var)}
        return dx.reshape(shape), grads

    return y.reshape(shape), backward


@takes("x (N, H, W, C), size ≥ 1")
def average_pool(x, size):
    """The mean of each size × size square -> y (N, H // size, W // size, C); a remainder at the edges is left out."""
    if size == 1:
        return x, lambda dy: dy
    xp = array_module(x)
    n, h, w, c = x.shape
    rows, columns = h // size, w // size
    if not rows or not columns:
        raise ValueError(f"pictures of {h} × {w} are too small to pool by {size}: choose a larger image_size.")
    tall = x[:, : rows * size].reshape(n, rows, size, w * c).sum(2)
    y = tall.reshape(n, rows, w, c)[:, :, : columns * size].reshape(n, rows, columns, size, c).sum(3)
    y *= 1 / size**2

    def backward(dy):
        dx = xp.zeros(x.shape, dy.dtype)
        squares = dx[:, : rows * size, : columns * size]
        spread = (dy / size**2).repeat(size, axis=2)
        for row in range(size):
            squares[:, row::size] = spread
        return dx

    return y, backward
