# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown] tags=["slide"]
# # 3 · Norms
#
# *Goal:* you can derive the backward pass of softmax, of layer norm and of the step onto the unit sphere, and see all three as one idea.
# *Needs:* notebooks 1 and 2. *Time:* about 90 minutes. *Mirrors:* [layers.py](../miniclip/layers.py).
#
# These three functions throw something away. A softmax does not see a constant that is added to its row. Layer norm sees neither a constant nor a factor. The unit sphere does not see a length. And **what a function does not see, its gradient cannot ask for.** Nearly all of their backward passes follow from this sentence, and so does the way to notice when one is wrong.

# %%
# %matplotlib inline
import numpy as np
from matplotlib.figure import Figure

from miniclip import plots
from miniclip.course import exercise, grade, put_in, take_out
from miniclip.gradcheck import check, check_layer, jacobians
from miniclip.layers import linear

rng = np.random.default_rng(0)

# %% [markdown] tags=["slide"]
# ## 1. Softmax
#
# $$y_i = \frac{e^{x_i}}{\sum_j e^{x_j}}$$
#
# It makes any row of numbers into one that is positive and sums to 1. In CLIP it stands in every attention, and in the loss.
#
# **Predict.** Add 100 to all numbers of a row. What happens to $y$? And so: if $dx$ is the gradient of any loss behind the softmax, what is $\sum_i dx_i$?

# %% [markdown] tags=["answer"]
# Nothing happens: $e^{100}$ stands above and below the line. So a step along $(1, 1, \dots, 1)$ changes no loss, and the slope in that direction, which is $\sum_i dx_i$, is zero. **The gradient of a softmax sums to 0 in each row**, whatever stands behind it.

# %% [markdown]
# Now the derivative. The input $x_j$ stands in the numerator of $y_j$ alone, and in the sum below all of them:
#
# $$\frac{\partial y_i}{\partial x_j} = y_i\,(\delta_{ij} - y_j) \qquad\Rightarrow\qquad dx_j = \sum_i dy_i\, \frac{\partial y_i}{\partial x_j} = y_j \Big( dy_j - \sum_i dy_i\, y_i \Big)$$
#
# The sum is one number for each row: the mean of $dy$, weighted by $y$. It is taken away, and what is left is weighted by $y$.
#
# One thing more. $e^{1000}$ is infinite to a computer, and infinity over infinity is no number. Since a constant does not matter, take the largest of the row away first. (For complex $x$, as the check uses them, `x.real.max`: a constant is a constant.)
#
# **Write** softmax along any `axis`, and its backward.


# %% tags=["exercise"]
@exercise("softmax")
def softmax(x, axis=-1):
    """y = exp(x) / Σ exp(x) along an axis. -> y, backward; backward(dy) -> dx."""
    ### BEGIN SOLUTION
    e = np.exp(x - x.real.max(axis, keepdims=True))
    y = e / e.sum(axis, keepdims=True)

    def backward(dy):
        return y * (dy - (dy * y).sum(axis, keepdims=True))

    return y, backward
    ### END SOLUTION


grade(softmax)

# %% [markdown]
# **Look.** The whole Jacobian of one row of four numbers. On the left is what a hasty backward pass believes, `y * dy`; beside it is the truth.


# %% alt="The Jacobian of a softmax of four numbers, as a hasty backward believes it and as it is. The claimed one has entries on its diagonal alone; in the true one all other entries are negative." tags=["slide", "output"]
def hasty_softmax(x):
    y = softmax(x)[0]
    return y, lambda dy: y * dy


row = rng.standard_normal((1, 4))
plots.jacobian(jacobians(hasty_softmax, row)["x"])

# %% [markdown]
# The hasty one believes that each output hangs on its own input alone. In truth all hang on all: a softmax shares out one whole, and what one gets, the others lose. Each row and each column of the true Jacobian sums to 0.
#
# ### A cotangent of ones
#
# Many people check with `y.sum()` for a loss, which is a cotangent of ones. But each row of a softmax sums to 1, whatever its input. Here are three wrong backward passes. **Predict** which of them that check lets pass.


# %%
def factor_forgotten(x):
    y = softmax(x)[0]
    return y, lambda dy: dy - (dy * y).sum(-1, keepdims=True)


def plain_mean(x):
    y = softmax(x)[0]
    return y, lambda dy: y * (dy - dy.mean(-1, keepdims=True))


def with_ones(layer, x):
    """What a check with a loss of y.sum() sees: the largest entry of the gradient."""
    return np.abs(layer(x)[1](np.ones(x.shape))).max()


x = rng.standard_normal((4, 8))
wrong = (factor_forgotten, plain_mean, hasty_softmax)
print(f"{'':18}{'gradient of y.sum()':>22}{'error, random c':>18}")
for layer in (softmax, *wrong):
    report = check(layer, x)
    print(f"{layer.__name__:18}{with_ones(layer, x):22.0e}{report.max_error:18.0e}")

# %% tags=["numbers"]
assert with_ones(factor_forgotten, x) < 1e-14 and with_ones(plain_mean, x) < 1e-14
assert with_ones(hasty_softmax, x) > 0.1
assert min(check(layer, x).max_error for layer in wrong) > 0.1

# %% [markdown] tags=["answer"]
# The first two pass: they too find some way to give zero, which is what is right for ones. The hasty one gives $y$ where zero is due, and is caught, by luck. With a random cotangent none of them escapes.

# %% [markdown] tags=["slide"]
# ## 2. Layer norm
#
# $$\hat x = \frac{x - \mu}{\sqrt{\sigma^2 + \varepsilon}}, \qquad y = \gamma\,\hat x + \beta$$
#
# with the mean $\mu$ and the variance $\sigma^2$ of each row of $D$ numbers; $\gamma$ and $\beta$ are parameters (Ba et al. 2016). In CLIP it stands before every attention and every MLP.
#
# **Predict.** Leave $\varepsilon$ aside. Which two changes of $x$ does $\hat x$ not see? So to which two directions is the gradient at a right angle?

# %% [markdown] tags=["answer"]
# A constant, and a factor: $a x + b$ has the same $\hat x$, for $a > 0$. A small step along $(1, \dots, 1)$ is the first, and a small step along $x - \mu$, which is the direction of $\hat x$, is the second. So $\sum dx = 0$ and $\sum dx\,\hat x = 0$, in each row.

# %% [markdown]
# Let us find the formula from that. Going back, $\gamma$ comes first: $g = dy \circ \gamma$ is the gradient of $\hat x$. If $\mu$ and $\sigma$ were constants, $dx$ would be $g / \sigma$. They are not; and all that they do is to take the two directions out:
#
# $$dx = \frac{1}{\sigma}\Big( g - \operatorname{mean}(g) - \hat x \, \operatorname{mean}(g \circ \hat x) \Big)$$
#
# It is a projection. The first term takes the part of $g$ along $(1, \dots, 1)$ away, the second the part along $\hat x$ (whose square has the mean 1, so nothing needs to be divided). The rest stays as it is. You can also grind it out with the chain rule; do it once in your life, and arrive here.
#
# The parameters are easier: $\gamma$ multiplies $\hat x$ in every row, and $\beta$ is added to every row, so $d\gamma = \sum dy \circ \hat x$ and $d\beta = \sum dy$, over all axes but the last.
#
# **Write** it. $\varepsilon$ stands under the root.


# %% tags=["exercise"]
@exercise("layer_norm")
def layer_norm(x, weight, bias, eps=1e-5):
    """y = γ x̂ + β over the last axis of x (..., D). weight γ (D,), bias β (D,).

    -> y, backward; backward(dy) -> dx, {"weight": dγ, "bias": dβ}
    """
    ### BEGIN SOLUTION
    centred = x - x.mean(-1, keepdims=True)
    deviation = np.sqrt((centred * centred).mean(-1, keepdims=True) + eps)
    normal = centred / deviation

    def backward(dy):
        g = dy * weight
        dx = g - g.mean(-1, keepdims=True)
        dx = (dx - normal * (g * normal).mean(-1, keepdims=True)) / deviation
        rows = tuple(range(dy.ndim - 1))
        return dx, {"weight": (dy * normal).sum(rows), "bias": dy.sum(rows)}

    return normal * weight + bias, backward
    ### END SOLUTION


grade(layer_norm)

# %% [markdown]
# **Look.** With $D = 3$ one can see it. The numbers $\hat x$ have the mean 0, so they lie in the plane at a right angle to $(1, 1, 1)$; and their square has the mean 1, so they lie on a circle in it. The picture shows that plane. Dashed: $g$, when its mean has been taken away. Solid: what is left when its part along $\hat x$ is gone as well.

# %% alt="A circle with twelve points on it, the normalised rows. At each a dashed arrow points somewhere into the plane and a solid arrow, its projection, runs along the circle. Beside it bars: the part of the gradient along the ones is gone after the first step, that along the normalised row after the second, and the rest stays." tags=["slide", "output"]
angles = np.arange(12) * 2 * np.pi / 12
plane = np.array([[1, -1, 0], [1, 1, -2]]) / np.sqrt([[2], [6]])  # at right angles to 1
rows = np.sqrt(3) * np.stack([np.cos(angles), np.sin(angles)], 1) @ plane
g = rng.standard_normal(rows.shape)
stages = [
    g,
    g - g.mean(-1, keepdims=True),
    layer_norm(rows, np.ones(3), np.zeros(3))[1](g)[0],
]

figure = Figure(figsize=(9.4, 4.2), layout="constrained")
left, right = figure.subplots(1, 2, width_ratios=(1, 1.1))
left.plot(
    *(np.sqrt(3) * np.array([np.cos(t := np.linspace(0, 7, 200)), np.sin(t)])),
    color=plots.GREY,
    lw=1,
)
for stage, style in (
    (stages[1], {"ls": "--", "color": plots.ORANGE}),
    (stages[2], {"color": plots.BLUE}),
):
    for (px, py), (dx, dy) in zip(rows @ plane.T, stage @ plane.T * 0.6):
        left.annotate(
            "",
            (px + dx, py + dy),
            (px, py),
            arrowprops={"arrowstyle": "->", "lw": 1.5, **style},
        )
left.plot(*(rows @ plane.T).T, "o", color=plots.GREY, ms=4)
left.set(
    aspect="equal",
    xlim=(-3.2, 3.2),
    ylim=(-3.2, 3.2),
    title="the plane of mean 0, and x̂ on its circle",
)
left.axis("off")

units = [np.ones(3) / np.sqrt(3), rows / np.sqrt(3)]
parts = np.array(
    [[np.sqrt(((s * unit).sum(-1) ** 2).mean()) for unit in units] for s in stages]
)
rest = np.sqrt(
    np.maximum([(s * s).sum(-1).mean() for s in stages] - (parts**2).sum(1), 0)
)
bars = np.column_stack([parts, rest])
for k, (name, colour) in enumerate(
    (("along 1", plots.ORANGE), ("along x̂", plots.PURPLE), ("the rest", plots.BLUE))
):
    right.bar(np.arange(3) + 0.27 * (k - 1), bars[:, k], 0.25, color=colour, label=name)
right.set_xticks(range(3), ["g", "mean taken away", "x̂ taken away: dx"])
right.set_title("how long its parts are")
right.legend(frameon=False, ncols=3, loc="upper center")
right.set_ylim(0, 1.2 * bars.max())
right.spines[["top", "right"]].set_visible(False)
figure

# %% tags=["numbers"]
assert bars[0].min() > 0.3 and bars[1, 0] < 1e-12 and bars[2, :2].max() < 1e-4
assert abs(bars[0, 2] - bars[2, 2]) < 1e-4

# %% [markdown]
# The blue arrows run along the circle, each of them. That is all the freedom there is: $\hat x$ can only move on its circle, whatever is done to $x$. (What is left along $\hat x$, if you look closely, is not quite zero: that is $\varepsilon$, which makes a long row look a little longer than a short one.)
#
# ### Another trap: γ = 1 and β = 0
#
# That is how a layer norm begins its life, and so it is what a hasty test uses. Here are three backward passes, all wrong. One forgets γ. One multiplies by γ after the projection, where it belongs before. One uses the output $y$ in the place of $\hat x$, which is tempting, for the output is at hand.
#
# **Predict**, for each of the points in the table, which of the three are found.


# %%
def project(g, normal, x):
    """g without its parts along 1 and along x̂, divided by the deviation."""
    deviation = np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    along = normal * (g * normal).mean(-1, keepdims=True)
    return (g - g.mean(-1, keepdims=True) - along) / deviation


def weight_forgotten(x, weight, bias):
    y, right = layer_norm(x, weight, bias)
    return y, lambda dy: (project(dy, (y - bias) / weight, x), right(dy)[1])


def weight_outside(x, weight, bias):
    y, right = layer_norm(x, weight, bias)
    return y, lambda dy: (weight * project(dy, (y - bias) / weight, x), right(dy)[1])


def output_for_normal(x, weight, bias):
    y, right = layer_norm(x, weight, bias)
    return y, lambda dy: (project(dy * weight, y, x), right(dy)[1])


weight, bias = rng.standard_normal(8), rng.standard_normal(8)
ones, zeros = np.ones(8), np.zeros(8)
points = {"γ = 1, β = 0": (ones, zeros), "γ = 1": (ones, bias)}
points |= {"β = 0": (weight, zeros), "both random": (weight, bias)}
table = {}
print("worst error       " + "".join(f"{name:>15}" for name in points))
for layer in (layer_norm, weight_forgotten, weight_outside, output_for_normal):
    errors = [check(layer, x, *point).max_error for point in points.values()]
    table[layer.__name__] = errors
    print(f"{layer.__name__:18}" + "".join(f"{error:15.0e}" for error in errors))

# %% tags=["numbers"]
faults = [
    table[f.__name__] for f in (weight_forgotten, weight_outside, output_for_normal)
]
assert all(errors[0] < 1e-12 and errors[3] > 0.1 for errors in faults)

# %% [markdown] tags=["answer"]
# In the first column all are right to rounding: there the formulas *are* the same, and no tolerance, however strict, tells them apart. Away from that point they are not even close. So **check at random parameters**, and let nothing be 0 or 1 by construction. Given such a point, the checker even knows what happened:

# %% tags=["reading"]
check(weight_outside, x, weight, bias)

# %% [markdown] tags=["slide"]
# ## 3. The unit sphere
#
# $$y = \frac{x}{|x|}$$
#
# CLIP compares a picture with a text by the angle between their embeddings. So both are put on the unit sphere, as the last step of each encoder.
#
# **Predict.** Which direction does it not see? Write $dx$ down without any calculation.

# %% [markdown] tags=["answer"]
# A factor: the direction of $x$ itself. So the gradient has no part along $y$; and if $|x|$ were a constant it would be $dy / |x|$. Together, $dx = (dy - y\,\sum dy \circ y) / |x|$. It is layer norm without the mean.

# %% [markdown]
# **Write** it, for the rows of an array of any shape. A row of zeros has no direction: it stays a row of zeros, and may not become NaN; for that there is `eps`.


# %% tags=["exercise"]
@exercise("l2_normalize")
def l2_normalize(x, eps=1e-12):
    """y = x / |x| over the last axis; a row of zeros stays zeros.

    -> y, backward; backward(dy) -> dx
    """
    ### BEGIN SOLUTION
    length = np.sqrt((x * x).sum(-1, keepdims=True))
    length = np.where(length.real < eps, length + eps, length)
    y = x / length

    def backward(dy):
        return (dy - y * (dy * y).sum(-1, keepdims=True)) / length

    return y, backward
    ### END SOLUTION


grade(l2_normalize)

# %% [markdown]
# **Look** at a consequence. A gradient step is at a right angle to $x$, so by Pythagoras it makes $x$ *longer*, always. And the longer $x$ is, the shorter is its gradient, by the factor $1/|x|$. **Predict** what happens to the length of a vector that is trained to point somewhere, at a constant rate.

# %% alt="Two curves over thirty steps of descent, for a low rate and a high one: the length of the vector rises and then stays, never falls, and is about twice as large for the high rate." tags=["slide", "output"]
goal = np.eye(8)[0]
figure = Figure(figsize=(6.4, 3.2), layout="constrained")
ax = figure.subplots()
lengths = {}
for rate, colour in ((0.1, plots.BLUE), (1.0, plots.ORANGE)):
    v = np.full(8, 0.2)
    v[0] = -0.5
    lengths[rate] = []
    for _ in range(30):
        lengths[rate].append(np.sqrt(v @ v))
        y, backward = l2_normalize(v)
        v = v - rate * backward(-goal)  # the loss is −⟨goal, y⟩
    ax.plot(
        lengths[rate],
        color=colour,
        label=f"rate {rate}: at the end ⟨goal, y⟩ = {goal @ y:.3f}",
    )
ax.set(xlabel="step", ylabel="|x|")
ax.legend(frameon=False)
ax.spines[["top", "right"]].set_visible(False)
figure

# %% tags=["numbers"]
assert all(np.diff(found).min() > -1e-12 for found in lengths.values())
assert 1.5 < lengths[1.0][-1] / lengths[0.1][-1] < 2.5
assert lengths[0.1][-1] > 1.05 * lengths[0.1][0]

# %% [markdown] tags=["answer"]
# It grows for as long as it turns, never shrinks, and with every bit of length the next steps turn it less: a norm brings a schedule of its own. With the high rate the first step is a long one, and the vector keeps the length that it gave for good. That is one reason why networks with norms forgive a rate that is too high, and why weight decay, which makes vectors shorter, acts like a *higher* rate in front of a norm.

# %% [markdown] tags=["slide"]
# ## 4. In the library
#
# Your three functions can stand in for the library's, in every module that uses them: softmax in each attention and in the loss, layer norm in each block, the sphere at the end of both encoders. Then a whole CLIP runs on them, and its gradient is checked: 63 arrays, pictures included.

# %%
print(put_in(softmax, layer_norm, l2_normalize))
report = check_layer("whole model (ViT)", method="adjoint")
take_out()
print(report.headline)
print(f"{sum(row.ok for row in report.rows)} of {len(report.rows)} arrays are right.")

# %% tags=["numbers"]
assert report.ok and len(report.rows) == 63

# %% [markdown]
# ## What you know now
#
# **Explain**, in a sentence or two each:
#
# 1. A gradient of a softmax sums to 0.3 in one row. What do you know, without looking at the code?
# 2. Between a linear layer with a bias and a softmax: which part of the bias is never trained?
# 3. Layer norm follows a layer whose output is all multiplied by 7. What changes in $y$, and what in the gradient?

# %% [markdown] tags=["answer"]
# 1. That it is wrong: the term with the sum is missing, or wrong.
# 2. Its mean. The gradient of the bias sums to 0, so a step changes the differences between its entries and never their mean.
# 3. Nothing in $y$ (but for ε); the gradient is divided by 7.

# %% [markdown] tags=["reading"]
# To see the second one:

# %% tags=["reading"]
bias_gradient = linear(x, np.eye(8), np.zeros(8))[1](
    softmax(x)[1](rng.standard_normal((4, 8)))
)[1]["bias"]
print(f"the gradient of the bias sums to {bias_gradient.sum():.0e}")

# %% [markdown]
# ## Going on
#
# - **RMSNorm** leaves the mean in: $y = \gamma\,x / \sqrt{\operatorname{mean}(x^2) + \varepsilon}$. Which direction does it not see? Write it, and prove it with `check`.
# - **Batch norm** takes mean and variance over the batch, for each channel. What does it not see, and what does that mean for a batch of one? (Notebook 5.)
# - **A temperature.** $\operatorname{softmax}(x / \tau)$: what is the gradient with respect to $\tau$, and when is it zero?
