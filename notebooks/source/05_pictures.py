# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown] tags=["slide"]
# # 5 · Pictures
#
# *Goal:* you can write a convolution, a pooling layer and a batch norm with their backward passes, and say which pixels an output depends on.
# *Needs:* notebooks 1 to 3. *Time:* about 120 minutes. *Mirrors:* [conv.py](../miniclip/conv.py) and [resnet.py](../miniclip/resnet.py).
#
# A picture is read many times over. One pixel lies in several windows, one kernel is laid on thousands of places, one mean is used by all pixels of a batch. **A gradient goes back to wherever a number was read, once for each time that it was read**, and there it is added up. This sentence gives you all the backward passes of this notebook. At the end it tells you, for any number inside a ResNet, which pixels it has seen.

# %%
# %matplotlib inline
from time import perf_counter

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from miniclip import load
from miniclip.conv import extract_patches
from miniclip.course import exercise, grade, put_in, take_out
from miniclip.data import emoji_names, emoji_pictures, plain
from miniclip.gradcheck import check, check_layer
from miniclip.preprocess import normalize
from miniclip.resnet import bottleneck, conv_norm

rng = np.random.default_rng(0)

# %% [markdown] tags=["slide"]
# ## 1. A window that slides
#
# In this library pictures are *channels-last*, $(N, H, W, C)$: the colours of one pixel lie side by side. A convolution lays a small kernel on a window of the picture, multiplies number by number, and sums:
#
# $$y_{nijo} = \sum_{u,v,c} w_{ocuv}\; x_{n,\; i s + u,\; j s + v,\; c}$$
#
# The *stride* $s$ says how far the window moves from one output pixel to the next. There is one kernel for each output channel $o$, and it looks at all channels $c$ of the picture. (Mathematicians turn the kernel by 180° first. Networks do not, and keep the name.)

# %% [markdown] tags=["slide"]
# **Predict.** A picture of 6 × 6 pixels, a kernel of 3 × 3, stride 1. In how many windows does a pixel in the corner lie, and in how many does one in the middle? And with stride 2?

# %% [markdown] tags=["answer"]
# With stride 1 the corner lies in one window and the middle in nine. With stride 2 the windows overlap by one row or column only, and the last row and the last column are read by nobody. We shall soon let the backward pass count for us.

# %% [markdown]
# Now go back. At one place $(i, j)$ two things are read, the window and the kernel, and what comes out is linear in each of them. So each gets the other, times $dy$ at that place:
#
# $$dx_{n,\; is+u,\; js+v,\; c} \;\mathrel{+}=\; \sum_o dy_{nijo}\, w_{ocuv} \qquad\qquad dw_{ocuv} \;\mathrel{+}=\; \sum_n dy_{nijo}\, x_{n,\; is+u,\; js+v,\; c}$$
#
# The $+\!=$ is the point. A pixel collects from all windows in which it lies, and the kernel collects from all places.
#
# **Write** it with two loops, over the rows $i$ and the columns $j$ of the output, without padding and without a bias. `np.einsum` does the sums at one place.


# %% tags=["exercise"]
@exercise("convolve")
def convolve(x, weight, stride=1):
    """y[n, i, j, o] = Σ weight[o, c, u, v] x[n, i·stride + u, j·stride + v, c].

    x (N, H, W, C), weight (O, C, kh, kw) -> y (N, H', W', O), backward, where
    H' = (H − kh) // stride + 1; backward(dy) -> dx, {"weight": dweight}
    """
    ### BEGIN SOLUTION
    n, h, w, _ = x.shape
    out, _, kh, kw = weight.shape
    rows, columns = (h - kh) // stride + 1, (w - kw) // stride + 1

    def places():
        for i in range(rows):
            for j in range(columns):
                a, b = i * stride, j * stride
                yield i, j, np.s_[:, a : a + kh, b : b + kw]

    y = np.zeros((n, rows, columns, out), x.dtype)
    for i, j, window in places():
        y[:, i, j] = np.einsum("nuvc,ocuv->no", x[window], weight)

    def backward(dy):
        dx, dweight = np.zeros_like(x), np.zeros_like(weight)
        for i, j, window in places():
            dx[window] += np.einsum("no,ocuv->nuvc", dy[:, i, j], weight)
            dweight += np.einsum("no,nuvc->ocuv", dy[:, i, j], x[window])
        return dx, {"weight": dweight}

    return y, backward
    ### END SOLUTION


grade(convolve)

# %% [markdown]
# **Look.** Take a kernel of ones, and a cotangent of ones. Then each window sends a 1 to each of its pixels, and $dx$ *counts* how often each pixel was read.

# %% tags=["slide"]
counts = {}
for stride in (1, 2):
    y, backward = convolve(np.zeros((1, 6, 6, 1)), np.ones((1, 1, 3, 3)), stride)
    counts[stride] = backward(np.ones_like(y))[0][0, :, :, 0].astype(int)
    print(f"stride {stride}:\n{counts[stride]}\n")

# %% tags=["numbers"]
assert counts[1][0, 0] == 1 and counts[1][2, 2] == 9 and counts[1].sum() == 16 * 9
assert (counts[2][-1] == 0).all() and (counts[2][:, -1] == 0).all()
assert counts[2][2, 2] == 4

# %% [markdown]
# A pixel at the edge has less say than one in the middle, and with stride 2 some pixels are read four times as often as others. *Padding*, a frame of zeros around the picture, gives the edge more windows.
#
# And what is a convolution good for? Here are three kernels that a person chose, on the picture of a guitar. In CLIP nobody chooses them: they are learned, from nothing but $dw$.

# %% alt="Four grey pictures: a guitar; the differences from left to right, in which upright edges stand out light and dark; the differences from top to bottom, in which level edges stand out; and a blurred guitar." tags=["slide", "output"]
code = {entry["name"]: entry["code"] for entry in emoji_names()}


def drawings(style, things):
    """What one artist made of these things: float (len(things), 64, 64, 3) in 0..1."""
    pictures, codes = emoji_pictures(style)
    pictures = pictures[[codes.index(code[name]) for name in things]]
    return plain(pictures, 64).transpose(0, 2, 3, 1).astype(float)


guitar = drawings("noto", ["guitar"]).mean(-1, keepdims=True)
sobel = np.array([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
kernels = np.stack([sobel, sobel.T])[:, None]
edges = convolve(guitar, kernels)[0][0]
blurred = convolve(guitar, np.ones((1, 1, 7, 7)) / 49)[0][0, :, :, 0]

figure = Figure(figsize=(9, 2.5), layout="constrained")
for ax, image, title, limit in zip(
    figure.subplots(1, 4),
    (guitar[0, :, :, 0], edges[..., 0], edges[..., 1], blurred),
    ("the picture", "left to right", "top to bottom", "mean of 7 × 7"),
    ((0, 1), (-3, 3), (-3, 3), (0, 1)),
):
    ax.imshow(image, cmap="grey", vmin=limit[0], vmax=limit[1])
    ax.set_title(title, fontsize=10)
    ax.axis("off")
figure

# %% [markdown] tags=["slide"]
# ## 2. Patches: one matrix product
#
# Two loops in Python are slow. But look at one place: the window is a row of $k_h k_w C$ numbers, and the kernels are $O$ such rows. So cut all windows out, lay each flat, and the convolution is a **linear layer on patches**. You have its backward pass already, from notebook 2.
#
# `extract_patches(x, kh, kw, stride, padding)` of the library cuts them out: $(N, H, W, C) \to (N, H', W', k_h k_w C)$. In each row the numbers stand in the order $(u, v, c)$.

# %%
tiny = np.arange(16.0).reshape(1, 4, 4, 1)
print(tiny[0, :, :, 0])
print(extract_patches(tiny, 2, 2, stride=1)[0, 0], "the patches of the first row")

# %% [markdown]
# Copying is a linear function, too. What is its backward pass? Each number of a patch was *read* from some pixel; so its gradient goes back to that pixel, and is added to what is there. It is `extract_patches` transposed, and we call it `scatter_patches`.
#
# **Write** it. The frame of zeros was no picture: what comes back to it is thrown away. `shape` is $(N, H, W, C)$, that of the picture. (A loop over all windows is right. A loop over the $k_h k_w$ places *in* a window is right, too, and much faster: then each step adds one slice of the picture with a stride.)


# %% tags=["exercise"]
@exercise("scatter_patches")
def scatter_patches(patches, shape, kh, kw, stride, padding):
    """The transpose of extract_patches: each window is added back to where it was read.

    patches (N, H', W', kh·kw·C), shape (N, H, W, C) -> an array of that shape
    """
    ### BEGIN SOLUTION
    n, h, w, c = shape
    rows, columns = patches.shape[1:3]
    patches = patches.reshape(n, rows, columns, kh, kw, c)
    framed = np.zeros((n, h + 2 * padding, w + 2 * padding, c), patches.dtype)
    for u in range(kh):
        for v in range(kw):
            down = slice(u, u + rows * stride, stride)
            right = slice(v, v + columns * stride, stride)
            framed[:, down, right] += patches[:, :, :, u, v]
    return framed[:, padding : padding + h, padding : padding + w]
    ### END SOLUTION


grade(scatter_patches)

# %% [markdown]
# Now the convolution as the library has it: with a bias, a stride and padding. **Write** it by means of `extract_patches`, a matrix product, and your `scatter_patches`. Mind the order: a patch is $(u, v, c)$, and the kernel lies in memory as $(c, u, v)$.
#
# `backward` has a second argument, `input_gradient`. Where it is false, nobody wants $dx$, and you may return `None` in its place: the first layer of a network has only the pixels before it.


# %% tags=["exercise"]
@exercise("conv2d")
def conv2d(x, weight, bias=None, stride=1, padding=0):
    """x (N, H, W, C), weight (O, C, kh, kw), bias (O,) or None.

    -> y (N, H', W', O), backward; backward(dy, input_gradient=True) -> dx, grads.
    grads: {"weight": dweight, "bias": dbias}, without "bias" where there is none
    """
    ### BEGIN SOLUTION
    out, channels, kh, kw = weight.shape
    matrix = weight.transpose(0, 2, 3, 1).reshape(out, -1)
    patches = extract_patches(x, kh, kw, stride, padding)
    y = patches @ matrix.T
    if bias is not None:
        y = y + bias

    def backward(dy, input_gradient=True):
        rows = dy.reshape(-1, out)
        dmatrix = rows.T @ patches.reshape(len(rows), -1)
        dweight = dmatrix.reshape(out, kh, kw, channels).transpose(0, 3, 1, 2)
        grads = {"weight": dweight}
        if bias is not None:
            grads["bias"] = rows.sum(0)
        if not input_gradient:
            return None, grads
        return scatter_patches(dy @ matrix, x.shape, kh, kw, stride, padding), grads

    return y, backward
    ### END SOLUTION


grade(conv2d)

# %% [markdown]
# **Look.** The same numbers, by loops and by patches; and what each of them costs, forward and backward.

# %%
x = rng.standard_normal((2, 64, 64, 8))
weight = rng.standard_normal((16, 8, 3, 3)) / 8
seconds, results = {}, []
for layer in (convolve, conv2d):
    times = []
    for _ in range(3):
        start = perf_counter()
        y, backward = layer(x, weight)
        dx, _ = backward(np.ones_like(y))
        times.append(perf_counter() - start)
    seconds[layer.__name__] = min(times)
    results.append((y, dx))
for name, time in seconds.items():
    print(f"{name:9} {1000 * time:6.0f} ms")
apart = max(np.abs(a - b).max() for a, b in zip(*results))
print(f"largest difference: {apart:.0e}")
grown = extract_patches(x, 3, 3).size / x.size
print(f"the patches have {grown:.1f} times as many numbers as the picture")

# %% tags=["numbers"]
assert apart < 1e-10 and 8 < grown < 9  # a busy machine would disturb the seconds

# %% [markdown]
# The patches are paid for in memory: with a 3 × 3 kernel, nearly nine times the picture, for each pixel is copied once for each window that reads it. (The library does not keep them for the backward pass. With stride 1 it uses another form of it, see the second question at the end.)
#
# ### Where a mistake hides
#
# Here are three backward passes that are wrong. In one, windows that overlap overwrite one another. In one, the kernel is turned by 180° on the way back. In one, $dw$ is the mean over all places, where the sum is due.
#
# **Predict**, for each of the points in the table, which of them are found. The last point but one is how a Vision Transformer cuts its patches.


# %%
def overwriting(x, weight, stride):
    y, right = convolve(x, weight, stride)
    kh, kw = weight.shape[2:]

    def backward(dy):
        dx = np.zeros_like(x)
        for i in range(dy.shape[1]):
            for j in range(dy.shape[2]):
                window = np.s_[
                    :, i * stride : i * stride + kh, j * stride : j * stride + kw
                ]
                dx[window] = np.einsum("no,ocuv->nuvc", dy[:, i, j], weight)
        return dx, right(dy)[1]

    return y, backward


def turning(x, weight, stride):
    y, right = convolve(x, weight, stride)
    other = convolve(x, weight[:, :, ::-1, ::-1], stride)[1]
    return y, lambda dy: (other(dy)[0], right(dy)[1])


def averaging(x, weight, stride):
    y, right = convolve(x, weight, stride)

    def backward(dy):
        dx, grads = right(dy)
        return dx, {"weight": grads["weight"] / (dy.shape[1] * dy.shape[2])}

    return y, backward


x, weight = rng.standard_normal((2, 6, 6, 2)), rng.standard_normal((3, 2, 3, 3))
points = {
    "1 × 1 kernel": (x, weight[:, :, :1, :1], 1),
    "symmetric": (x, weight + weight[:, :, ::-1, ::-1], 1),
    "one window": (x[:, :3, :3], weight, 1),
    "stride = size": (x, weight, 3),
    "random": (x, weight, 1),
}
table = {}
print("worst error " + "".join(f"{name:>15}" for name in points))
for layer in (convolve, overwriting, turning, averaging):
    errors = [check(layer, *point).max_error for point in points.values()]
    table[layer.__name__] = dict(zip(points, errors))
    print(f"{layer.__name__:12}" + "".join(f"{error:15.0e}" for error in errors))

# %% tags=["numbers"]
hidden = {name: {p for p, e in row.items() if e < 1e-10} for name, row in table.items()}
assert hidden["overwriting"] == {"1 × 1 kernel", "one window", "stride = size"}
assert hidden["turning"] == {"1 × 1 kernel", "symmetric"}
assert hidden["averaging"] == {"one window"}

# %% [markdown] tags=["answer"]
# Where no two windows overlap, nothing is there to be overwritten: with a kernel of 1 × 1, with one window, and with a stride as long as the kernel. So a `=` for a `+=` would do no harm in a Vision Transformer and ruin a ResNet. A symmetric kernel (a blur, or ones, as tests like to have) is the same when it is turned. With one window the mean over all places *is* the sum. Only the random point, with windows that overlap, finds all three.

# %% [markdown] tags=["slide"]
# ## 3. Pooling
#
# `average_pool` replaces each square of $s \times s$ pixels by its mean. No pixel is read twice, and each has a share of $1/s^2$ in its mean; so backward hands $dy / s^2$ to every pixel of the square. If the picture cannot be divided, a remainder at the right and below is left out: it was read by nobody, and its gradient is zero.

# %% [markdown]
# **Write** it.


# %% tags=["exercise"]
@exercise("average_pool")
def average_pool(x, size):
    """The mean of each size × size square, without what is over at the right and below.

    x (N, H, W, C) -> y (N, H // size, W // size, C), backward; backward(dy) -> dx
    """
    ### BEGIN SOLUTION
    n, h, w, c = x.shape
    rows, columns = h // size, w // size
    inner = x[:, : rows * size, : columns * size]
    y = inner.reshape(n, rows, size, columns, size, c).mean((2, 4))

    def backward(dy):
        dx = np.zeros_like(x)
        shares = (dy / size**2).repeat(size, 1).repeat(size, 2)
        dx[:, : rows * size, : columns * size] = shares
        return dx

    return y, backward
    ### END SOLUTION


grade(average_pool)

# %% [markdown]
# ### Why CLIP pools
#
# A ResNet has to make its pictures smaller. The usual way is a stride of 2: compute every second pixel and skip the rest. CLIP's ResNet computes all of them, and averages each 2 × 2 (Radford et al. 2021, after Zhang 2019). That costs four times as much at that place. What for?
#
# Shift a picture by one pixel. We see the same thing, and a network should see nearly the same. **Predict** which changes more under that shift, the skipped or the averaged picture, and by how much: for an emoji, and for stripes that are one pixel wide.

# %% tags=["slide"]
stripes = np.tile([0.0, 1.0], 32)[None, None, :, None].repeat(64, 1)
many = drawings("noto", ["guitar", "tiger face", "ferris wheel", "palm tree"])
ways = {
    "skipped": lambda x: x[:, ::2, ::2],
    "averaged": lambda x: average_pool(x, 2)[0],
}
changed = {}
for what, images in (("emoji", many), ("stripes", stripes)):
    shifted = np.roll(images, 1, axis=2)
    for way, smaller in ways.items():
        one, other = smaller(images), smaller(shifted)
        changed[what, way] = np.abs(one - other).mean()
        print(f"{what:8} {way:9} a pixel changes by {changed[what, way]:.3f}")

# %% tags=["numbers"]
assert changed["stripes", "skipped"] == 1 and changed["stripes", "averaged"] == 0
assert 1.1 < changed["emoji", "skipped"] / changed["emoji", "averaged"] < 2

# %% [markdown] tags=["answer"]
# The skipped stripes are all black, and after one step to the right they are all white: what is left of the picture is decided by where the lattice happens to lie. That is *aliasing*. Their mean is grey at all places. Emoji have few such stripes, so there the difference is smaller, though it is there; inside a network, where a layer of edge detectors makes fine patterns out of anything, there is more of it. In terms of our sentence: in a picture that is skipped, three pixels of four are read by nobody, and hear nothing back.

# %% [markdown] tags=["slide"]
# ## 4. Batch norm
#
# $$\hat x = \frac{x - \mu}{\sqrt{\sigma^2 + \varepsilon}}, \qquad y = \gamma\,\hat x + \beta$$
#
# You know this formula from layer norm. Only the axes are others: $\mu$ and $\sigma^2$ are taken for each channel, **over all pixels of all pictures of the batch** (Ioffe & Szegedy 2015). It stands after each convolution of CLIP's ResNet.

# %% [markdown] tags=["slide"]
# In use there may be no batch. So in training a running average of $\mu$ and $\sigma^2$ is kept, and in use, `training=False`, these are taken in their place: constants.
#
# **Predict.** You have a batch of two pictures, a cat and a dog, and a loss that looks at the output for the cat alone. Is there a gradient at the pixels of the *dog*?

# %% [markdown] tags=["answer"]
# In training, yes. The dog's pixels were read for $\mu$ and for $\sigma$, and these were used for the cat. The gradient goes back to wherever a number was read. In use, no: then a picture is alone.

# %% [markdown]
# So there are two backward passes. In use, $\mu$ and $\sigma$ are constants, and $dx = dy \circ \gamma / \sigma$. In training, what you derived for layer norm holds as it is, with means over pictures, rows and columns. With $g = dy \circ \gamma$,
#
# $$dx = \frac{1}{\sigma}\Big( g - \operatorname{mean}(g) - \hat x \, \operatorname{mean}(g \circ \hat x) \Big)$$
#
# The two running averages are no parameters, and the loss has no gradient with respect to them. The library gives them a place among the gradients all the same, so that one step of training moves everything. The function for that is here, you only have to call it.


# %%
def to_subtract(x, running_mean, running_var, training):
    """What a step of 0.1 has to subtract for running averages to move; in use, 0."""
    if not training:
        return {"running_mean": 0 * running_mean, "running_var": 0 * running_var}
    count = x.size // x.shape[-1]
    mean = x.mean((0, 1, 2))
    var = ((x - mean) ** 2).sum((0, 1, 2)) / max(count - 1, 1)
    return {"running_mean": running_mean - mean, "running_var": running_var - var}


# %% [markdown]
# **Write** batch norm. The variance under the root is the mean of the squares, divided by their count.


# %% tags=["exercise"]
@exercise("batch_norm")
def batch_norm(x, weight, bias, running_mean, running_var, training=False, eps=1e-5):
    """y = γ x̂ + β for each channel of x (N, H, W, C). The rest (C,); weight γ, bias β.

    -> y, backward; backward(dy) -> dx, {"weight": dγ, "bias": dβ,
    **to_subtract(x, running_mean, running_var, training)}
    """
    ### BEGIN SOLUTION
    axes = (0, 1, 2)
    mean = x.mean(axes) if training else running_mean
    centred = x - mean
    var = (centred * centred).mean(axes) if training else running_var
    deviation = np.sqrt(var + eps)
    normal = centred / deviation

    def backward(dy):
        g = dy * weight
        if training:
            g = g - g.mean(axes) - normal * (g * normal).mean(axes)
        grads = {"weight": (dy * normal).sum(axes), "bias": dy.sum(axes)}
        moved = to_subtract(x, running_mean, running_var, training)
        return g / deviation, grads | moved

    return normal * weight + bias, backward
    ### END SOLUTION


grade(batch_norm)

# %% [markdown]
# **Look.** Four pictures in a batch. For each pair, how long is the gradient at picture $j$ of a loss that looks at the output for picture $i$ alone?

# %% tags=["slide"]
x = rng.standard_normal((4, 3, 3, 2))
weight, bias = rng.standard_normal(2), rng.standard_normal(2)
statistics = np.zeros(2), np.ones(2)
heard = {}
for training in (True, False):
    y, backward = batch_norm(x, weight, bias, *statistics, training)
    heard[training] = np.zeros((4, 4))
    for i in range(4):
        dy = np.zeros_like(y)
        dy[i] = rng.standard_normal(y[i].shape)
        heard[training][i] = np.sqrt((backward(dy)[0] ** 2).sum((1, 2, 3)))
    print(f"training={training}\n{heard[training].round(2)}\n")

# %% tags=["numbers"]
assert heard[True].min() > 1e-3
assert (heard[False][~np.eye(4, dtype=bool)] == 0).all()

# %% [markdown]
# In training nothing is off limits: every picture has a part in every other. That has consequences. The answer for a picture depends on its company. A model can be right in training and wrong in use, when the running averages do not fit. And a check with `training=False` proves nothing about training.
#
# **Predict.** In training, what is $dx$ for a cotangent of ones, as a check with `y.sum()` has it? And what does batch norm answer for one picture of one pixel?

# %%
y, backward = batch_norm(x, weight, bias, *statistics, True)
print(f"largest |dx| for ones: {np.abs(backward(np.ones_like(y))[0]).max():.0e}")
one = batch_norm(x[:1, :1, :1], weight, bias, *statistics, True)[0]
print("one pixel:", one.ravel(), "   β:", bias)

# %% tags=["numbers"]
assert np.abs(backward(np.ones_like(y))[0]).max() < 1e-14
assert np.allclose(one.ravel(), bias)

# %% [markdown] tags=["answer"]
# Zero, at all pixels: each channel of $\hat x$ sums to 0, whatever $x$ is, so a loss of `y.sum()` is a constant. And a number that is alone is its own mean: $\hat x$ is 0 and $y = \beta$. A batch norm of one pixel has forgotten its input.

# %% [markdown] tags=["slide"]
# ## 5. What has it seen?
#
# Take one number somewhere inside a ResNet. The pixels that it depends on are its *receptive field*. Our sentence finds it: walk back, and note what was read. If the numbers $a$ to $b$ of a row are wanted after a layer with kernel $k$, stride $s$ and padding $p$, then before it these were read:
#
# $$a\,s - p \quad\text{to}\quad b\,s - p + k - 1$$
#
# An average pool is a kernel of its own size, with that stride. Here are the layers of the ResNet that comes with this library. Its pictures have 64 × 64 pixels.

# %% [markdown] tags=["slide"]
# **Predict.** The stem has three convolutions of 3 × 3, and `layer1` to `layer3` have one each. How wide is the field of one number behind `layer2`? Do all pixels in it count the same?


# %%
STEM = [(3, 2, 1), (3, 1, 1), (3, 1, 1), (2, 2, 0)]  # (kernel, stride, padding)
BLOCK = [(3, 1, 1)]
HALF = [(3, 1, 1), (2, 2, 0)]
LAYERS = {
    "conv1": STEM[:1],
    "conv3": STEM[:3],
    "layer1": STEM + BLOCK,
    "layer2": STEM + BLOCK + HALF,
    "layer3": STEM + BLOCK + HALF + HALF,
}


def field(layers, at, size=64):
    """The first and last pixel that number `at` of a row has read, and the width."""
    a = b = at
    for kernel, stride, padding in reversed(layers):
        a, b = a * stride - padding, b * stride - padding + kernel - 1
    return max(a, 0), min(b, size - 1), b - a + 1


def side(layers, size=64):
    for kernel, stride, padding in layers:
        size = (size + 2 * padding - kernel) // stride + 1
    return size


middle = {name: side(layers) // 2 for name, layers in LAYERS.items()}
width = {name: field(layers, middle[name])[2] for name, layers in LAYERS.items()}
for name, layers in LAYERS.items():
    print(f"{name:7} {side(layers):2} × {side(layers):<2}   field {width[name]} wide")

# %% tags=["numbers"]
assert list(width.values()) == [3, 11, 21, 33, 57]

# %% [markdown]
# That was bookkeeping. The backward pass knows it as well: put a cotangent at that one number, and look where the gradient arrives. We use the trained model that comes with the library, on 16 emoji, and your layers, as far as you have written them.

# %%
model = load("emoji")
things = ["guitar", "tiger face", "ferris wheel", "palm tree", "crown", "dog face"]
things += ["hamburger", "red apple", "lemon", "cat face", "house with garden"]
things += ["crying face", "grinning face", "tangerine", "jack-o-lantern"]
things += ["umbrella with rain drops"]
pictures = drawings("noto", things).transpose(0, 3, 1, 2)
pixels = normalize(pictures, model.config).transpose(0, 2, 3, 1)


def walk(x, p, training):
    """The ResNet, step by step: (name, output, backwards so far)."""
    steps = []
    for name, where in (("conv1", {"stride": 2}), ("conv2", {}), ("conv3", {})):
        x, back = conv_norm(x, p, int(name[-1]), training, padding=1, **where)
        steps.append(lambda d, back=back: back(d)[0])
        yield name, x, steps
    x, back = average_pool(x, 2)
    steps.append(back)
    for stage in (1, 2, 3):
        for block, part in enumerate(p[f"layer{stage}"]):
            stride = 2 if stage > 1 and block == 0 else 1
            x, back = bottleneck(x, part, stride, training)
            steps.append(lambda d, back=back: back(d)[0])
        yield f"layer{stage}", x, steps


seen = {}
with put_in(conv2d, batch_norm, average_pool):
    for training in (False, True):
        for name, y, steps in walk(pixels, model.params["visual"], training):
            if name in LAYERS:
                dy = np.zeros_like(y)  # one place of the first picture, all channels
                i = middle[name]
                dy[0, i, i] = np.random.default_rng(0).standard_normal(y.shape[-1])
                for back in reversed(steps):
                    dy = back(dy)
                seen[name, training] = np.sqrt((dy**2).sum(-1))
take_out()

for name, layers in LAYERS.items():
    rows = np.flatnonzero(seen[name, False][0].max(1))
    a, b, _ = field(layers, middle[name])
    print(
        f"{name:7} by the rule {a:2} to {b:2}, by the gradient {rows[0]} to {rows[-1]}"
    )

# %% tags=["numbers"]
for name, layers in LAYERS.items():
    rows = np.flatnonzero(seen[name, False][0].max(1))
    assert (rows[0], rows[-1]) == field(layers, middle[name])[:2]

# %% [markdown]
# Both agree, to the pixel (behind `layer3` the field reaches over the edge of the picture, and is cut off there). Now look at how much each pixel counts, with `training=False` in the upper row. The lower row is the same in training, with a batch norm of the whole batch. **Predict** what the lower row looks like.

# %% alt="Two rows of five maps of the same picture. Upper row, in use: the gradient fills a small square after the first convolution and a larger one with every stage, brightest in the middle and fading towards the edges of the square drawn around it. Lower row, in training: the same bright spot, and a faint gradient at all other pixels of the picture as well." tags=["slide", "output"]
figure = Figure(figsize=(9.4, 4.1), layout="constrained")
axes = figure.subplots(2, 5)
for row, training in zip(axes, (False, True)):
    for ax, (name, layers) in zip(row, LAYERS.items()):
        strength = seen[name, training][0]
        strength = strength / strength.max()
        shown = ax.imshow(
            np.maximum(strength, 1e-9), cmap="magma", norm=LogNorm(1e-5, 1)
        )
        a, b, wide = field(layers, middle[name])
        box = np.array([a - 0.5, b + 0.5])
        ax.plot(box[[0, 1, 1, 0, 0]], box[[0, 0, 1, 1, 0]], color="white", lw=1, ls=":")
        ax.set(xticks=[], yticks=[], xlim=(-0.5, 63.5), ylim=(63.5, -0.5))
        if not training:
            ax.set_title(f"{name}: {wide} wide", fontsize=10)
for ax, label in zip(axes[:, 0], ("in use", "in training")):
    ax.set_ylabel(label)
bar = figure.colorbar(
    shown, ax=axes, shrink=0.8, label="gradient, relative to its largest"
)
figure

# %%
name = "layer2"
a, b, wide = field(LAYERS[name], middle[name])
energy = seen[name, False][0] ** 2
quarter = wide // 4
inner = energy[a + quarter : b + 1 - quarter, a + quarter : b + 1 - quarter].sum()
area = (wide - 2 * quarter) ** 2 / wide**2
print(f"{name}: the middle has {area:.0%} of the area and {inner / energy.sum():.0%}")
print("of the squared gradient.")
others = (seen[name, True][1:] > 0).all()
print(f"in training, all pixels of the 15 other pictures have a gradient: {others}")

# %% tags=["numbers"]
assert 0.25 < area < 0.3 and inner / energy.sum() > 0.5
assert others and not seen[name, False][1:].any()
assert all((seen[name, True][0] > 0).mean() > 0.99 for name in LAYERS)

# %% [markdown] tags=["answer"]
# In use, the gradient fades towards the edge of the field. There is one way from the corner of the field to the number, and there are many from the middle: each of them was a read, and each brings something back. (Luo et al. 2016 call what is left the *effective* receptive field; for many layers it is a bell.) In training, nothing is dark any more: the batch norms have read every pixel of every picture. Faintly, for each has only a small share in the mean. So the receptive field of a number in a ResNet with batch norm is, strictly, **the whole batch**.

# %% [markdown]
# Behind `layer3` a number sees most of the picture, though still dimly at the edges. CLIP's ResNet ends with an attention over all places (notebook 4), which reads them all.
#
# ## 6. In the library
#
# Your layers in the place of the library's, inside a whole CLIP with a ResNet, pixels included.

# %% tags=["slide"]
print(put_in(conv2d, batch_norm, average_pool))
report = check_layer("whole model (ResNet)", method="adjoint")
take_out()
print(report.headline)
print(f"{sum(row.ok for row in report.rows)} of {len(report.rows)} arrays are right.")

# %% tags=["numbers"]
assert report.ok and len(report.rows) > 80

# %% [markdown]
# ## What you know now
#
# **Explain**, in a sentence or two each:
#
# 1. Your $dw$ is right for one picture of 3 × 3 pixels, and wrong for all others. What did you forget?
# 2. With stride 1, $dx$ is itself a convolution: of $dy$, with padding, and with the kernel *turned by 180°*. Why turned?
# 3. You check a ResNet with `training=False`, and every gradient is right. In training it learns badly. Which terms have you never checked, and what did they do?

# %% [markdown] tags=["answer"]
# 1. The sum over places. A picture of 3 × 3 has one window, so there the last, the mean and the sum are one and the same.
# 2. Output $i$ reads input $i + u$ with weight $w_u$. Seen from the input $k$, that is output $k - u$: what slides forward when it reads slides backward when it is paid back. A kernel of negative offsets is a kernel that is turned.
# 3. The two terms with a mean in batch norm: in use they are not there. Without the first the gradient has a part along a constant for each channel, without the second one along $\hat x$; both point where the output does not go.

# %% [markdown] tags=["reading"]
# To see the second one:

# %% tags=["reading"]
x, weight = rng.standard_normal((2, 5, 5, 3)), rng.standard_normal((4, 3, 3, 3))
y, backward = conv2d(x, weight, padding=1)
dy = rng.standard_normal(y.shape)
turned = weight[:, :, ::-1, ::-1].swapaxes(0, 1)  # and the channels exchanged
apart = np.abs(conv2d(dy, turned, padding=1)[0] - backward(dy)[0]).max()
print(f"largest difference: {apart:.0e}")

# %% [markdown]
# ## Going on
#
# - **Group norm** takes its mean and variance over some of the channels and all pixels of *one* picture. Write it, and say who hears whom.
# - **Max pooling** reads all pixels of a square and hands on one. Where does its gradient go, and what at a tie? (Notebook 1, section 5.)
# - **A field with gaps.** A *dilated* convolution reads every second pixel. Change the rule of section 5, and draw the field of four such layers.
