# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown] tags=["slide"]
# # 1 · One slope: why believe a gradient
#
# *Goal:* you can prove a gradient, to the last digit, and you know when such a proof is worth nothing.
# *Needs:* derivatives of one variable, NumPy. *Time:* about 60 minutes.
# *Mirrors:* [gradcheck/numeric.py](../miniclip/gradcheck/numeric.py).
#
# You have written a backward pass. It runs, the shapes fit, and the loss goes down. None of this proves anything. In this notebook you ask the forward pass what the gradient is, by hand, on one number. Then you look for the best way to ask, and find one that is exact to rounding. At the end you prove all parameters of a whole CLIP with two numbers.

# %%
# %matplotlib inline
import numpy as np
from matplotlib.figure import Figure

from miniclip import plots
from miniclip.course import exercise, grade
from miniclip.gradcheck import draw_case, v_curve
from miniclip.layers import layer_norm, quick_gelu, relu, softmax
from miniclip.transformer import mlp
from miniclip.tree import flatten, tree_map

# %% [markdown]
# ## 1. It trains, so it is right?
#
# Here is a network of two layers, and a training loop in ten lines. It learns to predict one number from eight. The backward pass has three variants: one is right, one forgets the mask of the ReLU, and one sums where a mean is due.
#
# **Predict.** Which of the three will bring the loss down?

# %%
rng = np.random.default_rng(0)
inputs = rng.standard_normal((256, 8))
targets = np.tanh(inputs @ rng.standard_normal((8, 1))) + 0.1 * inputs[:, :1] ** 2


def train(variant, steps=400, rate=0.05):
    start = np.random.default_rng(1)
    w1, w2 = start.standard_normal((8, 16)) / 3, start.standard_normal((16, 1)) / 4
    losses = []
    for _ in range(steps):
        before = inputs @ w1
        hidden = np.maximum(before, 0)
        error = hidden @ w2 - targets
        losses.append((error * error).mean())
        derror = 2 * error / (1 if variant == "a sum for a mean" else len(error))
        dhidden = derror @ w2.T
        mask = 1 if variant == "the mask forgotten" else before > 0
        step = rate / (len(error) if variant == "a sum for a mean" else 1)
        w1 -= step * inputs.T @ (dhidden * mask)
        w2 -= step * hidden.T @ derror
    return losses


runs = {
    name: train(name) for name in ("right", "the mask forgotten", "a sum for a mean")
}
for name, losses in runs.items():
    print(f"{name:20} loss {losses[0]:.3f} -> {losses[-1]:.3f}")

# %% tags=["numbers"]
first = runs["right"][0]
assert all(losses[-1] < 0.5 * first for losses in runs.values())
assert np.allclose(runs["right"], runs["a sum for a mean"])
assert runs["the mask forgotten"][-1] > 1.1 * runs["right"][-1]

# %% [markdown] tags=["answer"]
# All three. A sum for a mean is the same direction, 256 times as long, and whoever then finds that the rate must be 256 times smaller has tuned the mistake away: the two losses are the same to rounding. The forgotten mask gives another direction, and the loss falls all the same, only not as far. A loss that goes down is no proof, and one that goes down *less* looks like a bad rate, too few neurons, or a hard problem.

# %% [markdown]
# ## 2. A slope
#
# A gradient makes a claim about the forward pass, and the forward pass can be asked. A derivative is a limit: how much $f$ changes, over how much $x$ was changed. We write $y(t) = f(x + t)$ for what comes out after a little walk of length $t$ from where we stand. We want the slope of $y$ at $t = 0$. A computer takes no limits, but it can take a small step $h$, to both sides:
#
# $$D(h) = \frac{y(h) - y(-h)}{2h}$$
#
# **Write** this *central difference*. `y` is a function of $t$.


# %% tags=["exercise"]
@exercise("central")
def central(y, h):
    """The slope of y at 0, by a step h to both sides."""
    ### BEGIN SOLUTION
    return (y(h) - y(-h)) / (2 * h)
    ### END SOLUTION


grade(central)

# %% [markdown]
# **Look.** Our example is $f(x) = \ln(1 + e^x)$ at $x = 1$, whose derivative we know: it is the sigmoid, $\sigma(1)$. So we can watch the error.
#
# **Predict.** With a step of $10^{-13}$, how many digits will be right: 13, 8, or 3?


# %% tags=["slide"]
def y(t):
    return np.log(1 + np.exp(1 + t))


true = 1 / (1 + np.exp(-1.0))
steps = (1e-1, 1e-3, 1e-5, 1e-7, 1e-9, 1e-11, 1e-13)
slopes = [central(y, h) for h in steps]
for h, slope in zip(steps, slopes):
    print(f"h = {h:.0e}    slope {slope:.16f}    error {abs(slope - true):.0e}")
print(f"      σ(1) is exactly {true:.16f}")

# %% tags=["numbers"]
errors = np.abs(np.array(slopes) - true)
assert errors.argmin() == 2 and errors[2] < 1e-10
assert 1e-4 < errors[-1] < 1e-2

# %% [markdown] tags=["answer", "more"]
# Three. With a smaller step the error falls, and then it *rises* again. Two errors are at work. Taylor's series gives the first,
#
# $$D(h) = f'(x) + \frac{h^2}{6} f'''(x) + \dots$$
#
# It shrinks as $h^2$. The second is rounding. Both values are right to some sixteen digits; they agree in nearly all of them, the subtraction throws these away, and what is left is divided by a tiny $h$. That error grows as $1/h$. So the step must be small, and it must not be too small.

# %% [markdown]
# ## 3. Richardson: let the errors cancel
#
# The error of $D(h)$ is $a h^2 + b h^4 + \dots$ with unknown $a$ and $b$. But the same $a$ and $b$ stand in $D(h/2)$ and in $D(h/4)$. Three equations, three unknowns, and one of them is the slope:
#
# $$\frac{64\,D(h/4) - 20\,D(h/2) + D(h)}{45}$$
#
# **Explain** to yourself why the weights sum to 1, and why $h^2$ and $h^4$ are gone: put $D(h) = s + a h^2 + b h^4$ in. **Write** it, by means of your `central`.


# %% tags=["exercise"]
@exercise("richardson")
def richardson(y, h):
    """The slope of y at 0, with an error of order h⁶."""
    ### BEGIN SOLUTION
    coarse, middle, fine = central(y, h), central(y, h / 2), central(y, h / 4)
    return (64 * fine - 20 * middle + coarse) / 45
    ### END SOLUTION


grade(richardson)

# %% [markdown] tags=["slide"]
# ## 4. The complex step
#
# Squire and Trapp, 1998. Walk along the *imaginary* axis, with Taylor as the guide:
#
# $$f(x + ih) = f(x) + ih\,f'(x) - \frac{h^2}{2} f''(x) - \frac{ih^3}{6} f'''(x) + \dots$$
#
# The value $f(x)$ is real, and the slope is imaginary. Each has its own sixteen digits. Take the imaginary part, divide by $h$, and **nothing is subtracted**. So the step may be as small as you like: $10^{-30}$, and its square is nothing.
#
# NumPy computes with complex numbers already: no graph, no tape, no second implementation. **Write** it.


# %% tags=["exercise"]
@exercise("complex_step")
def complex_step(y, h):
    """The slope of y at 0, by a step ih along the imaginary axis."""
    ### BEGIN SOLUTION
    return y(1j * h).imag / h
    ### END SOLUTION


grade(complex_step)

# %% [markdown]
# **Look.** All ways on our $f$. The one-sided slope, $(y(h) - y(0))/h$, is there because so many people use it.

# %%
ways = {"one-sided": lambda y, h: (y(h) - y(0.0)) / h, "central": central}
ways |= {"richardson": richardson, "complex": complex_step}
print("      h " + "".join(f"{way:>12}" for way in ways))
for h in (1e-1, 1e-2, 1e-3, 1e-5, 1e-7, 1e-9, 1e-11, 1e-30):
    errors = [abs(slope(y, h) - true) for slope in ways.values()]
    print(f"{h:8.0e}" + "".join(f"{error:12.0e}" for error in errors))

# %% tags=["numbers"]
assert errors[0] == errors[1] and errors[0] > 0.7  # at 1e-30 the differences are 0
assert errors[3] < 1e-15

# %% [markdown]
# At $h = 10^{-30}$ the differences are lost altogether, for $1 + 10^{-30}$ *is* $1$ to a computer. The complex step is right to rounding.
#
# ### The V
#
# The same for something real: `layer_norm`, all its arguments moved at once along random directions. `v_curve` measures how far each way is from what the backward pass says, at every step.

# %% alt="Error against step on logarithmic axes. One-sided, central and Richardson fall as the step shrinks, with slopes one, two and six, and rise again as rounding takes over: three Vs. The complex step falls with the central difference and stays at 1e-16." tags=["slide", "output"]
rng = np.random.default_rng(0)
x = rng.standard_normal((4, 8))
weight, bias = rng.standard_normal(8), rng.standard_normal(8)

curves = v_curve(layer_norm, x, weight, bias)
plots.v_curve(curves, "layer_norm: error of a derivative against its step")

# %% [markdown]
# Read it from right to left, as the step shrinks. On logarithmic axes a power is a straight line, and the power is its slope. If a way neglects $h^p$ and rounds by $\varepsilon/h$, the two are equal at $h = \varepsilon^{1/(p+1)}$, and the error there is $\varepsilon^{p/(p+1)}$. Let us compare the lowest points with that.

# %%
eps = np.finfo(float).eps
lowest = {}
print("             lowest error   theory      at h   theory")
for way, p in (("one-sided", 1), ("central", 2), ("richardson", 6)):
    steps, errors = curves[way]
    lowest[way] = errors.min()
    theory = eps ** (p / (p + 1)), eps ** (1 / (p + 1))
    print(
        f"{way:12}{errors.min():13.0e}{theory[0]:9.0e}"
        f"{steps[errors.argmin()]:10.0e}{theory[1]:9.0e}"
    )
steps, errors = curves["complex"]
lowest["complex"] = errors[steps < 2e-9].max()
print(
    f"complex          at most {lowest['complex']:.0e}, at every h from 1e-9 to 1e-30"
)

# %% tags=["numbers"]
assert 1e-9 < lowest["one-sided"] < 1e-6
assert 1e-12 < lowest["central"] < 1e-9
assert 1e-15 < lowest["richardson"] < 1e-12
assert lowest["complex"] < 1e-14

# %% [markdown]
# - **One-sided** can do no better than half of the sixteen digits, **central** gets two thirds of them, **Richardson** six sevenths, at a far longer step.
# - **The complex step has no left side.** It runs down to rounding and stays there.
#
# That changes the task. With a difference, one asks whether an error is *small enough*. With the complex step, one asks whether the gradient is *right*.
#
# ### The fine print
#
# The forward pass must be *analytic*: sums, products, quotients, `exp`, `log`, `sqrt`. Whatever looks at the *length* of a complex number breaks the series above: `np.abs`, `np.linalg.norm`, `np.var`, which take $|x|^2$ where the square of $x$ is meant.
#
# **Predict.** What does your `complex_step` say of $|x|$ at $x = -2$, where the slope is $-1$?

# %%
for name, length in (("np.abs(x)", np.abs), ("√(x·x)", lambda x: np.sqrt(x * x))):
    print(f"{name:10} {complex_step(lambda t: length(-2.0 + t), 1e-30):5.1f}")

# %% tags=["numbers"]
assert complex_step(lambda t: np.abs(-2.0 + t), 1e-30) == 0
assert complex_step(lambda t: np.sqrt((-2.0 + t) ** 2), 1e-30) == -1

# %% [markdown] tags=["answer"]
# Zero for `np.abs`: a number that moves along the imaginary axis does not change its length to first order, and a length is real. For $\sqrt{x \cdot x}$ it is $-1$, as it should be (the sign of the root is that of the branch: NumPy's root has a positive real part). A checker that trusted the complex step blindly would find fault with what is right here, and certify a backward pass that takes the length for a constant. So ours takes a central difference as well, before it believes. This is also why the forward passes of this library are written as they are, `(x * x).sum()` and not `np.linalg.norm`.

# %% [markdown] tags=["slide"]
# ## 5. The cliff
#
# Now a network: a linear layer, an activation, another linear layer. We walk along a random direction, and compare the central difference with what backward says. On the left the network has a QuickGELU, which is smooth, on the right a ReLU.

# %% alt="Two plots of the error of the central difference against its step. With QuickGELU it is a V. With ReLU the error falls all the way up to a dashed line, the distance to the nearest kink; there it jumps by many orders of magnitude and stays high." tags=["slide", "output"]
rng = np.random.default_rng(3)
x = rng.standard_normal((8, 16))
params = {
    "c_fc": {
        "weight": rng.standard_normal((32, 16)) / 4,
        "bias": rng.standard_normal(32),
    },
    "c_proj": {"weight": rng.standard_normal((16, 32)) / 6, "bias": np.zeros(16)},
}
u = rng.standard_normal(x.shape)
c = rng.standard_normal(x.shape)

before = x @ params["c_fc"]["weight"].T + params["c_fc"]["bias"]
speed = u @ params["c_fc"]["weight"].T
kinks = np.sort(np.abs(before / speed).ravel())  # how far each ReLU's kink is

figure = Figure(figsize=(9, 3.4), layout="constrained")
steps = np.logspace(-12, -0.5, 60)
missed = {}
for ax, activation in zip(figure.subplots(1, 2, sharey=True), (quick_gelu, relu)):
    claim = (mlp(x, params, activation)[1](c)[0] * u).sum()

    def walk(t, activation=activation):
        return (mlp(x + t * u, params, activation)[0] * c).sum()

    errors = [abs(central(walk, h) - claim) / abs(claim) for h in steps]
    missed[activation.__name__] = np.array(errors)
    ax.loglog(steps, np.maximum(errors, 1e-17), color=plots.BLUE)
    ax.set(title=activation.__name__, xlabel="step h", ylim=(1e-14, 1))
    ax.spines[["top", "right"]].set_visible(False)
ax.axvline(kinks[0], color=plots.RED, ls="--", lw=1)
ax.annotate(
    "the nearest kink",
    (kinks[0], 1e-2),
    (0.3 * kinks[0], 1e-2),
    ha="right",
    color=plots.RED,
)
figure.axes[0].set_ylabel("relative error of the central difference")
figure

# %% [markdown]
# **Explain.** What happens at the red line?

# %% tags=["numbers"]
beyond = steps > 2 * kinks[0]
short = (steps < 0.9 * kinks[0]) & (steps > 1e-6)
assert missed["relu"][short].max() < 1e-7
assert missed["relu"][beyond].min() > 50 * missed["relu"][short].max()
assert missed["quick_gelu"][(steps > 1e-6) & (steps < 1e-3)].max() < 1e-5

# %% [markdown] tags=["answer"]
# There the walk reaches a place where one of the ReLUs switches on or off. On this side of it the network is a straight line along the walk (its error is rounding alone, and *falls* as the step grows). On the far side another piece of the function begins, with another slope, and the central difference mixes the two. It is not curvature: a curve makes an error that falls as $h^2$, this one stands like a cliff, and with QuickGELU there is none. The nearest of the 256 kinks can be computed from the numbers before the ReLU, and it is where the cliff is. So a check of a network with kinks may fail though the gradient is right. The remedy is a shorter step, or the complex step, which does not leave the spot at all.
#
# Exactly *at* a kink there is no derivative: to the left the slope of `relu` is 0, to the right it is 1. Backward must say something, and says 0; a central difference says ½; the complex step says 1. Nobody is wrong. Our checker sees the jump, and looks on both sides of it instead.

# %% [markdown] tags=["slide"]
# ## 6. All slopes at once
#
# A layer takes an array and gives an array, and has as many slopes as the one times the other. Let $J = \partial f / \partial x$ be all of them. Nobody wants to compute $J$. But the forward pass can *walk* along any direction $u$: the slope of that walk is $J u$. And for a cotangent $c$, one number for each number of the output, `backward(c)` claims to be $J^\top c$. For every $u$ and $c$,
#
# $$\langle c, J u \rangle = \langle J^\top c, u \rangle$$
#
# The left side is the forward pass alone, and the right side the backward pass alone. Each is one number (Claerbout 1992). If one single entry of the gradient were wrong, the two would differ, unless the error lay exactly across a random $u$.
#
# **Write** both sides, the left one by a complex step. A layer returns its output and its backward: `y, backward = layer(x)`.


# %% tags=["exercise"]
@exercise("two_sides")
def two_sides(layer, x, c, u):
    """⟨c, J u⟩, by the forward pass of layer alone, and ⟨Jᵀ c, u⟩, by its backward."""
    ### BEGIN SOLUTION
    walked = layer(x + 1e-30j * u)[0].imag / 1e-30
    y, backward = layer(x)
    return (c * walked).sum(), (backward(c) * u).sum()
    ### END SOLUTION


grade(two_sides)

# %% [markdown]
# **Check** a layer with it, and then one that is wrong: the softmax of a hasty person, who forgot that every output depends on every input.


# %%
def hasty_softmax(x):
    y = softmax(x)[0]
    return y, lambda dy: y * dy


x, c, u = rng.standard_normal((3, 4, 8))
for layer in (softmax, hasty_softmax):
    forward, backward = two_sides(layer, x, c, u)
    print(f"{layer.__name__:14} forward {forward:19.15f}    backward {backward:19.15f}")

# %% tags=["numbers"]
assert np.isclose(*two_sides(softmax, x, c, u), rtol=1e-12)
assert not np.isclose(*two_sides(hasty_softmax, x, c, u), rtol=1e-2)

# %% [markdown]
# Why must $c$ be random? **Predict** what the two sides are for the hasty softmax if $c$ is all ones.

# %%
ones = np.ones_like(c)
for layer in (softmax, hasty_softmax):
    forward, backward = two_sides(layer, x, ones, u)
    print(f"{layer.__name__:14} forward {forward:10.1e}    backward {backward:10.1e}")

# %% tags=["numbers"]
assert abs(two_sides(softmax, x, ones, u)[0]) < 1e-14

# %% [markdown] tags=["answer"]
# The forward side is zero, for each row of a softmax sums to 1, whatever its input: with ones, nothing is asked. The hasty softmax gives something else here, by luck. But one that returned `dy - (dy * y).sum(-1, keepdims=True)`, without the factor $y$, would give exactly zero as well, and pass. Notebook 3 has a table of such mistakes. So: **random parameters, and a random cotangent**.

# %% [markdown]
# Size does not matter to this test. So take a whole CLIP, a small one with everything in it: a Vision Transformer, a text Transformer, the loss and its temperature. One walk, through all parameters at once.

# %% tags=["slide"]
whole_model, (params, images, tokens, config), _ = draw_case("whole model (ViT)")
loss, backward = whole_model(params, images, tokens, config)
gradient = flatten(backward()[0])

along = tree_map(lambda leaf: rng.standard_normal(leaf.shape), params)
moved = tree_map(lambda leaf, u: leaf + 1e-30j * u, params, along)

forward = whole_model(moved, images, tokens, config)[0].imag / 1e-30
claimed = sum((gradient[name] * u).sum() for name, u in flatten(along).items())
count = sum(leaf.size for leaf in gradient.values())
print(f"{count:,} parameters in {len(gradient)} arrays")
print(f"forward   {forward:.14f}")
print(f"backward  {claimed:.14f}")

# %% tags=["numbers"]
assert count > 4000 and np.isclose(forward, claimed, rtol=1e-11)

# %% [markdown]
# Two numbers, and they agree to the last digits: that is the proof. Everything that follows in this course is checked like this, each time you run `grade`: at several points, square and not, large and small, with random cotangents; and where something is wrong, the checker looks for what it is.
#
# ## What you know now
#
# **Explain**, in a sentence each, to somebody who was not here:
#
# 1. Why is a step of $10^{-13}$ worse than one of $10^{-5}$ for a difference, and not for the complex step?
# 2. Your check of a ReLU network fails by $10^{-3}$ at $h = 10^{-2}$ and succeeds at $h = 10^{-5}$. Is the gradient wrong?
# 3. Why does it not prove anything that the loss goes down?

# %% [markdown] tags=["answer"]
# 1. A difference subtracts two numbers that agree in all but their last digits, and divides what is left by $h$. The complex step keeps the slope in a part of its own, where nothing is subtracted.
# 2. Most likely not: the longer step reached across a kink. Check at a shorter one, or by the complex step.
# 3. Every direction at less than a right angle to the gradient brings the loss down. That is half of all directions.

# %% [markdown]
# ## Going on
#
# - **The best step.** Find the $h$ at which `central` is best for $f(x) = e^{x}$ at $x = 0$, at $x = 10$, and for $f(10^6 x)$. What should a step be a fraction of?
# - **In single precision.** Repeat the V in float32. Where are the lowest points, and what does theory say with $\varepsilon = 1.2 \cdot 10^{-7}$?
# - **Second derivatives.** The complex step gives $f''$ too: from which part, and how well?
