# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown] tags=["slide"]
# # 2 · Layers that know the way back
#
# *Goal:* you can derive the backward pass of a linear layer, an embedding and an activation, and chain them to a network.
# *Needs:* notebook 1, matrices. *Time:* about 90 minutes. *Mirrors:* [layers.py](../miniclip/layers.py).
#
# A loss is one number, and it stands at the very end. Every layer before it is asked the same question: *here is what the loss wants of your output; what does it want of your input?* To answer, a layer need not know what the loss is, nor which layers follow. It only has to know itself. In this notebook you write four layers that can answer. One sentence goes through all of them: **what was copied on the way forward is added up on the way back.**

# %%
# %matplotlib inline
import numpy as np
from matplotlib.figure import Figure

from miniclip import plots
from miniclip.course import exercise, grade, put_in, take_out
from miniclip.gradcheck import check, check_layer, jacobians

rng = np.random.default_rng(0)

# %% [markdown] tags=["slide"]
# ## 1. A layer and its way back
#
# In this library a layer is a function that returns two things: its output $y$, and a function, `backward`. That one takes $dy$, the gradient of the loss with respect to each number of $y$, and returns $dx$, the gradient with respect to each number of $x$. So $dy$ has the shape of $y$, and $dx$ has the shape of $x$.
#
# $$dx_j = \sum_i dy_i\, \frac{\partial y_i}{\partial x_j} \qquad\text{or, with all slopes in one matrix } J, \qquad dx = J^\top dy$$
#
# That is the whole chain rule. Read the sum: $x_j$ may have moved many outputs, and what each of these sends back is added.

# %% [markdown] tags=["slide"]
# **Predict.** A layer in the middle of CLIP's ViT-B/32 makes 3,072 numbers of 768, for each of 50 tokens of each of 32 pictures. How much memory would its $J$ take, in float32: 24 megabytes, gigabytes, or terabytes?

# %%
rows = 32 * 50
entries, own = (rows * 3072) * (rows * 768), 3072 * 768
print(f"J would have {entries:.1e} entries: {4 * entries / 1e12:.0f} terabytes.")
print(f"The weight has {own:,} entries: {4 * own / 1e6:.0f} megabytes.")

# %% tags=["numbers"]
assert 23 < 4 * entries / 1e12 < 25

# %% [markdown] tags=["answer"]
# Terabytes, for one layer of some fifty in the picture encoder alone. So nobody ever forms $J$. A backward pass is a way to *multiply* by $J^\top$ without having it, and this is why each layer has one of its own.

# %% [markdown]
# Here are three layers that hardly do anything. They are the bricks of all others.


# %% tags=["slide"]
def copies(x):
    """x, three times, in three rows."""
    return np.stack([x, x, x]), lambda dy: dy.sum(0)


def total(x):
    """The sum of the rows."""
    return x.sum(0), lambda dy: np.broadcast_to(dy, x.shape).copy()


def choice(x):
    """The first two columns."""

    def backward(dy):
        dx = np.zeros_like(x)
        dx[:, :2] = dy
        return dx

    return x[:, :2], backward


x = rng.standard_normal((4, 5))
for layer in (copies, total, choice):
    print(check(layer, x).headline)

# %% tags=["numbers"]
assert all(check(layer, x).ok for layer in (copies, total, choice))

# %% [markdown]
# | on the way forward | on the way back |
# |---|---|
# | copy | add |
# | add | copy |
# | choose | put back, and 0 elsewhere |
# | multiply by $W$ | multiply by $W^\top$ |
#
# Each line is the one idea, $J^\top$. Copying and adding are each other's transpose. Most mistakes in backward passes are a copy that nobody added up.

# %% [markdown] tags=["slide"]
# ## 2. The linear layer
#
# $$y_{rm} = \sum_k x_{rk}\, W_{mk} + b_m \qquad\text{or}\qquad Y = X W^\top + b$$
#
# $X$ is a list of $R$ rows of $K$ numbers. The weight makes $M$ numbers of each. Most of CLIP's parameters stand in such layers.

# %% [markdown] tags=["slide"]
# Now take each of the three and ask: *in which outputs does it stand, and with which factor?*
#
# - $x_{rk}$ stands in all $y_{rm}$ of its row, with the factor $W_{mk}$. So $dx_{rk} = \sum_m dy_{rm} W_{mk}$, which is $dX = dY\, W$.
# - $W_{mk}$ stands in $y_{rm}$ for **every row** $r$, with the factor $x_{rk}$. So $dW_{mk} = \sum_r dy_{rm} x_{rk}$, which is $dW = dY^\top X$.
# - $b_m$ stands in $y_{rm}$ for every row, with the factor 1. So $db_m = \sum_r dy_{rm}$.
#
# The weight and the bias were copied to all rows, so what the rows want is added up. It is a sum, and not a mean.

# %% [markdown]
# **Write** it. $x$ may have any number of axes before its last, in pictures and tokens and heads; to a linear layer all of that is one long list of rows. `reshape(-1, K)` makes it one. Where there is no bias, there is no gradient of it.


# %% tags=["exercise"]
@exercise("linear")
def linear(x, weight, bias=None):
    """y = x Wᵀ + b.

    x (…, K), weight W (M, K), bias b (M,) or None -> y (…, M), backward;
    backward(dy) -> dx, {"weight": dW, "bias": db}, or without "bias" if it is None
    """
    ### BEGIN SOLUTION
    rows = x.reshape(-1, x.shape[-1])
    y = rows @ weight.T
    if bias is not None:
        y = y + bias

    def backward(dy):
        drows = dy.reshape(-1, dy.shape[-1])
        grads = {"weight": drows.T @ rows}
        if bias is not None:
            grads["bias"] = drows.sum(0)
        return (drows @ weight).reshape(x.shape), grads

    return y.reshape(*x.shape[:-1], len(weight)), backward
    ### END SOLUTION


grade(linear)

# %% [markdown]
# Did you need a rule about transposes? There is a way to be safe from the worst mistake: write the shapes down. $dX$ is $(R, K)$, $dY$ is $(R, M)$, $W$ is $(M, K)$; only one product fits. But that safety ends where $K = M$.
#
# **Look.** Two rows of three numbers and a weight of $3 \times 3$. On the left is what a backward pass with `dy @ weight.T` believes; beside it is the truth.


# %% alt="The Jacobian of a linear layer from two rows of three numbers to two rows of three, as a backward with the wrong transpose believes it and as it is. Both have two square blocks on the diagonal and nothing else; in the claimed one each block is transposed." tags=["slide", "output"]
def turned(x, weight, bias):
    y, right = linear(x, weight, bias)
    return y, lambda dy: (dy @ weight.T, right(dy)[1])


two_rows, bias = rng.standard_normal((2, 3)), rng.standard_normal(3)
square = rng.standard_normal((3, 3))
plots.jacobian(jacobians(turned, two_rows, square, bias)["x"])

# %% tags=["numbers"]
found = jacobians(turned, two_rows, square, bias)["x"]
assert np.allclose(found.claimed[:3, :3], found.numeric[:3, :3].T)
assert np.abs(found.numeric[:3, 3:]).max() == 0

# %% [markdown]
# Two blocks, one for each row: a row of the output depends on its own row of the input and on no other. That is why a linear layer may be given any list of rows. Within each block the truth is $W$ and the claim is $W^\top$. Same numbers, same shapes, wrong places.
#
# ### Where it does not show
#
# Here are three wrong linear layers: the one with $W^\top$, and two that take a mean over the rows where a sum is due. We check them at three points: with one row alone, with a weight that is symmetric, and at random. **Predict** which are found where.


# %%
def weight_averaged(x, weight, bias):
    y, right = linear(x, weight, bias)

    def backward(dy):
        dx, grads = right(dy)
        return dx, grads | {"weight": grads["weight"] / len(x)}

    return y, backward


def bias_averaged(x, weight, bias):
    y, right = linear(x, weight, bias)

    def backward(dy):
        dx, grads = right(dy)
        return dx, grads | {"bias": dy.mean(0)}

    return y, backward


x, bias = rng.standard_normal((4, 5)), rng.standard_normal(5)
weight = rng.standard_normal((5, 5))
points = {"one row": (x[:1], weight), "symmetric": (x, weight + weight.T)}
points |= {"random": (x, weight)}
errors = {}
print("worst error       " + "".join(f"{name:>12}" for name in points))
for layer in (linear, turned, weight_averaged, bias_averaged):
    errors[layer.__name__] = [
        check(layer, *point, bias).max_error for point in points.values()
    ]
    row = "".join(f"{error:12.0e}" for error in errors[layer.__name__])
    print(f"{layer.__name__:18}{row}")

# %% tags=["numbers"]
assert errors["turned"][1] < 1e-12 < 0.1 < min(errors["turned"][0], errors["turned"][2])
for name in ("weight_averaged", "bias_averaged"):
    assert errors[name][0] < 1e-12 and min(errors[name][1:]) > 0.1

# %% [markdown] tags=["answer"]
# One row is its own mean, and a symmetric matrix is its own transpose. At such points the wrong formula *is* the right one, and no tolerance tells them apart. Who tests a layer with a batch of one, or with an identity for a weight, tests nothing of this. **Check at random, with several rows, and with shapes that are not square as well as with square ones.** `grade` does all of that.

# %% [markdown] tags=["slide"]
# ## 3. The embedding
#
# $$y = W[\text{ids}]$$
#
# A text is a list of integers. Each integer is the number of a row in a table $W$ of $V$ rows, and the row is what the network goes on with. It is a linear layer in disguise: write each id as a row of $V$ numbers, 1 at its place and 0 elsewhere, and multiply by $W$. So we know what comes back, $dW = E^\top dY$ with these rows in $E$; but nobody multiplies by so many zeros. Choosing a row on the way forward is putting it back on the way home.
#
# And a word that occurs twice was copied. **Predict** what this prints.

# %%
ids = np.array([2, 0, 2, 2])
counts = np.zeros(4)
counts[ids] += 1
print(counts)

# %% tags=["numbers"]
assert counts.tolist() == [1, 0, 1, 0]

# %% [markdown] tags=["answer"]
# `[1. 0. 1. 0.]`, though 2 occurs three times. `counts[ids] += 1` means `counts[ids] = counts[ids] + 1`: it reads four numbers, adds 1 to each, and writes four numbers, three of them to the same place. The last one stays. What adds one after the other is `np.add.at(counts, ids, 1)`.

# %% [markdown]
# **Write** the embedding. The ids are integers, which have no gradient; backward returns that of the table alone.


# %% tags=["exercise"]
@exercise("embedding")
def embedding(ids, weight):
    """y = W[ids].

    ids (…) integers in 0 … V − 1, weight W (V, D) -> y (…, D), backward;
    backward(dy) -> {"weight": dW}
    """
    ### BEGIN SOLUTION

    def backward(dy):
        dweight = np.zeros_like(weight)
        np.add.at(dweight, ids, dy)
        return {"weight": dweight}

    return weight[ids], backward
    ### END SOLUTION


grade(embedding)

# %% [markdown]
# **Look.** Four positions with the ids 2, 0, 2, 2, a table of four rows of two numbers. Rows of the figure are the eight outputs, columns the eight entries of the table. On the left, a backward with `dweight[ids] = dy`.


# %% alt="The Jacobian of an embedding of four positions, as a backward that overwrites believes it and as it is. In the truth every output has one filled square, and three positions share the same columns. In the claim two of these three are missing." tags=["slide", "output"]
def overwriting(ids, weight):
    def backward(dy):
        dweight = np.zeros_like(weight)
        dweight[ids] = dy
        return {"weight": dweight}

    return weight[ids], backward


table = rng.standard_normal((4, 2))
plots.jacobian(jacobians(overwriting, ids, table)["weight"])

# %% tags=["numbers"]
found = jacobians(overwriting, ids, table)["weight"]
assert found.numeric.sum() == 8 and found.claimed.sum() == 4

# %% [markdown]
# Each output is one entry of the table, so each row of the truth has a single 1. Columns 4 and 5, which belong to id 2, have three: it was used three times. The claim keeps the last of them. Columns 2, 3, 6 and 7 are empty in both: nobody used these words, and in this batch they learn nothing.

# %% [markdown] tags=["slide"]
# ## 4. Activations
#
# Two linear layers in a row are one linear layer. Between them stands a function of one number, applied to each entry by itself. Its Jacobian has entries on the diagonal alone, and so its backward pass is a product entry by entry:
#
# $$y_i = f(x_i) \qquad\Rightarrow\qquad dx_i = f'(x_i)\, dy_i$$
#
# ReLU is $\max(x, 0)$. Its slope is 1 above 0 and 0 below: it is a choice, made by $x$. At 0 itself it has no slope, and by custom one says 0 (see notebook 1).

# %% [markdown]
# **Write** it. Whose sign decides what comes back: that of $x$, or that of $dy$?


# %% tags=["exercise"]
@exercise("relu")
def relu(x):
    """y = max(x, 0). x of any shape -> y, backward; backward(dy) -> dx."""
    ### BEGIN SOLUTION
    y = np.maximum(x, 0)
    return y, lambda dy: dy * (y > 0)
    ### END SOLUTION


grade(relu)

# %% [markdown] tags=["slide"]
# CLIP's Transformers have a softer one, QuickGELU:
#
# $$y = x\, \sigma(1.702\, x), \qquad \sigma(a) = \frac{1}{1 + e^{-a}}$$
#
# It is an approximation of the GELU, $x$ times the probability that a normal variable is below $x$, and 1.702 makes the two alike. OpenAI's models were trained with it, so they need it: with the exact one they still run, and every feature is a little wrong.
#
# Here $x$ enters twice, as the factor and inside $\sigma$. The product rule follows both, and the slope of the sigmoid is $\sigma' = \sigma (1 - \sigma)$:
#
# $$f'(x) = \sigma + x \cdot 1.702\, \sigma\, (1 - \sigma) \qquad\text{with } \sigma = \sigma(1.702\, x)$$
#
# **Predict.** Can this slope be greater than 1? Can it be below 0?
#
# **Write** it.


# %% tags=["exercise"]
@exercise("quick_gelu")
def quick_gelu(x):
    """y = x σ(1.702 x). x of any shape -> y, backward; backward(dy) -> dx."""
    ### BEGIN SOLUTION
    sigmoid = 1 / (1 + np.exp(-1.702 * x))
    y = x * sigmoid
    return y, lambda dy: dy * (sigmoid + 1.702 * y * (1 - sigmoid))
    ### END SOLUTION


grade(quick_gelu)

# %% alt="Two plots. Left, ReLU and QuickGELU: the one has a corner at zero, the other dips a little below zero and then follows it. Right, their slopes: ReLU's jumps from zero to one; QuickGELU's goes below zero on the left, above one on the right, and settles. A dashed line shows the slope that the sigmoid alone would give, which does neither." tags=["slide", "output"]
line = np.linspace(-4, 4, 801)
figure = Figure(figsize=(9, 3.3), layout="constrained")
left, right = figure.subplots(1, 2)
slopes = {}
for layer, colour in ((relu, plots.ORANGE), (quick_gelu, plots.BLUE)):
    y, back = layer(line)
    slopes[layer.__name__] = back(np.ones_like(line))
    left.plot(line, y, color=colour, label=layer.__name__)
    right.plot(line, slopes[layer.__name__], color=colour, label=layer.__name__)
gate = 1 / (1 + np.exp(-1.702 * line))
right.plot(line, gate, "--", color=plots.GREY, lw=1, label="σ alone")
for ax, title in ((left, "the function"), (right, "its slope")):
    ax.axhline(0, color=plots.GREY, lw=0.5)
    ax.set(title=title, xlabel="x")
    ax.spines[["top", "right"]].set_visible(False)
right.axhline(1, color=plots.GREY, lw=0.5)
right.legend(frameon=False)
figure

# %%
soft = slopes["quick_gelu"]
print(f"the largest slope is {soft.max():.2f}, at x = {line[soft.argmax()]:.1f}")
print(f"the smallest is {soft.min():.2f}, at x = {line[soft.argmin()]:.1f}")

# %% tags=["numbers"]
assert 1.05 < soft.max() < 1.15 and -0.15 < soft.min() < -0.05

# %% [markdown] tags=["answer"]
# Both. Where $x$ is somewhat above 0, its own growth and that of the gate add up to more than 1. Where it is far enough below, a larger $x$ opens the gate for a negative number, and $y$ falls. The dashed line, which is what you get when you forget that $x$ stands in the gate too, does neither: between 0 and 1 everywhere, plausible, and wrong.

# %% [markdown] tags=["slide"]
# ## 5. A chain
#
# Layers in a row: the output of one is the input of the next. So on the way back, what comes *out* of the last one's backward is what goes *into* that of the one before. Here is the MLP of CLIP's Transformer, made of yours. Forward from top to bottom, backward from bottom to top; nothing else is new.


# %% tags=["more"]
def two_layers(x, p):
    h, first = linear(x, **p["c_fc"])
    a, activate = quick_gelu(h)
    y, second = linear(a, **p["c_proj"])

    def backward(dy):
        da, d_second = second(dy)
        dh = activate(da)
        dx, d_first = first(dh)
        return dx, {"c_fc": d_first, "c_proj": d_second}

    return y, backward


p = {
    "c_fc": {"weight": rng.standard_normal((20, 5)), "bias": rng.standard_normal(20)},
    "c_proj": {"weight": rng.standard_normal((5, 20)), "bias": rng.standard_normal(5)},
}
report = check(two_layers, x, p)
print(report.headline)

# %% tags=["numbers"]
assert report.ok

# %% [markdown]
# No tape and no graph: `backward` simply remembers what the forward pass left in its scope, here `first`, `activate` and `second`, and each of these remembers its own. It is a chain of closures.
#
# **Predict.** A linear layer does one matrix product on the way forward. Counted in products, how much more does a whole step of training cost than the forward pass alone?

# %% [markdown] tags=["answer"]
# Three times as much: one product forward, and two back, $dY\,W$ and $dY^\top X$, each of the same size. This is the rule of thumb that everybody uses, and it is as short as that.

# %% [markdown]
# ### Other manners
#
# Elsewhere you will meet layers that are written otherwise: a forward pass that returns a *cache*, and a backward pass that takes it; or an object that keeps what it needs on itself. It is the same mathematics, and `check` takes all of them. Two people made one mistake each. **Predict** from the code what it will say.


# %%
def affine_forward(x, w, b):
    return x @ w + b, (x, w)


def affine_backward(dout, cache):
    x, w = cache
    return dout @ w.T, x.T @ dout, dout.sum(1)


class Affine:
    def __init__(self, n, m):
        self.params = {"W": rng.standard_normal((n, m)), "b": rng.standard_normal(m)}
        self.grads = {}

    def forward(self, x):
        self.x = x
        return np.tanh(x @ self.params["W"] + self.params["b"])

    def backward(self, dout):
        self.grads = {"W": self.x.T @ dout, "b": dout.sum(0)}
        return dout @ self.params["W"].T


w, b = rng.standard_normal((5, 3)), rng.standard_normal(3)
cached = check(affine_forward, x, w, b, backward=affine_backward)
kept = check(Affine(5, 3), x)
print(cached.problems[0])
for row in kept.rows:
    print(f"{row.name}: {'right' if row.ok else 'wrong'}")

# %% tags=["numbers"]
assert not cached.ok and not any(row.ok for row in kept.rows)

# %% [markdown] tags=["answer"]
# The first sums `dout` over the wrong axis, along the columns and not over the rows, and does not get as far as numbers: a gradient has the shape of its array. The second forgot the slope of `tanh`. That is the last step forward, so it is the first one back, and all three gradients behind it are wrong.

# %% [markdown] tags=["slide"]
# ## 6. In the library
#
# Your layers can stand in for the library's. Then a whole CLIP runs on them, from pixels and tokens to the loss: with a Vision Transformer, where QuickGELU is, and with a ResNet, where ReLU is. Every array's gradient is checked.

# %%
print(put_in(linear, embedding, relu, quick_gelu))
reports = [
    check_layer(f"whole model ({kind})", method="adjoint") for kind in ("ViT", "ResNet")
]
take_out()
for report in reports:
    right = sum(row.ok for row in report.rows)
    print(f"{report.function}: {right} of {len(report.rows)} arrays are right.")

# %% tags=["numbers"]
assert all(report.ok for report in reports)
assert len(reports[0].rows) == 63

# %% [markdown]
# ## What you know now
#
# **Explain**, in a sentence or two each:
#
# 1. A bias is used by 1,600 rows, and its gradient is the sum of what they want. Somebody fears that it therefore learns 1,600 times too fast. Does it?
# 2. A word does not occur in a batch. What is the gradient of its row in the table, and does the row stay as it is in this step?
# 3. In the first layer of a network, one of the two products of the backward pass can be left out. Which, and why?

# %% [markdown] tags=["answer"]
# 1. No. If the loss is a mean over the batch, its $1/N$ is in each $dy$ already. The mean is taken once, where it stands in the forward pass; taken again here, it would be there twice.
# 2. It is 0: the output does not depend on it. A step of plain descent leaves it alone. AdamW may move it all the same, by the momentum of earlier steps and by weight decay, which does not ask for a gradient (notebook 9).
# 3. $dX = dY\,W$. It would be the gradient of the data, and nothing is trained there. (Unless one wants to know which pixels matter, as notebook 6 does.)

# %% [markdown] tags=["reading"]
# To see the first: the same pairs twice in a batch, with a loss that is a mean.

# %% tags=["reading"]
weight, goal = rng.standard_normal((3, 5)), rng.standard_normal((4, 3))
for times in (1, 2, 100):
    many, wanted = np.tile(x, (times, 1)), np.tile(goal, (times, 1))
    y, back = linear(many, weight, np.zeros(3))
    grads = back(2 * (y - wanted) / y.size)[1]  # of the mean of the squared errors
    print(f"{len(many):4} rows: the gradient of the bias", grads["bias"].round(4))

# %% [markdown]
# ## Going on
#
# - **The exact GELU.** $x\,\Phi(x)$, with the normal distribution $\Phi$ and its density $\varphi$. What is its slope? Write it, with the library's [erf](../miniclip/erf.py), and check it. How far is QuickGELU from it, at most?
# - **One table, used twice.** Language models often multiply by the embedding table once more at the end, to score the next word. Two ways lead to it. What is its gradient?
# - **LoRA.** $y = x W^\top + x A^\top B^\top$ with a fixed $W$ and two thin matrices. Derive $dA$ and $dB$. $B$ begins at 0: what are the two gradients in the first step?
