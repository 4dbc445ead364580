# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown] tags=["slide"]
# # 9 · One step
#
# *Goal:* you can write the step that trains CLIP: AdamW, its schedule, clipping, and the bound of the temperature. You know what each part is for.
# *Needs:* notebooks 1 and 8. *Time:* about 90 minutes.
# *Mirrors:* [optim.py](../miniclip/optim.py) and [train_step.py](../miniclip/train_step.py).
#
# The gradient is proven. Now it is to be used. A gradient says which way is down, from where you stand. **It does not say how far to go**: it is a slope, and a slope holds for an infinitely short step. Everything in this notebook is an answer to the question *how far?* At the end your step learns eight pairs by heart, and then you give it a task that cannot be learned, and say beforehand at which loss it will stop.

# %%
# %matplotlib inline
import math

import numpy as np
from matplotlib.figure import Figure

from miniclip import clip_loss, encode_image, encode_text, plots
from miniclip.course import exercise, grade
from miniclip.data import emoji_names, emoji_pictures, plain
from miniclip.init import initialize, model_config
from miniclip.layers import l2_normalize
from miniclip.optim import AdamW
from miniclip.preprocess import normalize
from miniclip.tokenizer import Tokenizer
from miniclip.train_step import loss_and_gradient
from miniclip.tree import Flat, flatten, unflatten

# %% [markdown]
# ## 1. How far?
#
# Eight emoji, their names, and a small CLIP with a Vision Transformer. In this notebook a model is a plain dictionary, `{name: array}`, and so is its gradient. Nothing is new in `model`: it is both encoders forward, the loss, and both encoders backward.

# %%
eight = ["red apple", "tangerine", "lemon", "cat face", "dog face"]
eight += ["tiger face", "grinning face", "crying face"]
code = {entry["name"]: entry["code"] for entry in emoji_names()}
pictures, codes = emoji_pictures("twemoji")
pictures = pictures[[codes.index(code[name]) for name in eight]]

tokenizer = Tokenizer.train(eight, vocab_size=600)
config = model_config("vit-tiny", vocab_size=tokenizer.vocab_size)
start = flatten(initialize(config, seed=0))
images = normalize(plain(pictures, config["vision_cfg"]["image_size"]), config)
tokens = tokenizer(eight, config["text_cfg"]["context_length"])


def model(params, images=images, tokens=tokens):
    """{name: array} -> the loss of the pairs, and its gradient, {name: array}."""
    tree = unflatten(params)
    image_features, backward_image = encode_image(tree, images, config, training=True)
    text_features, backward_text = encode_text(tree, tokens, config)
    loss, backward = clip_loss(image_features, text_features, tree["logit_scale"])
    d_image, d_text, d_scale = backward()
    grads = {**backward_image(d_image), **backward_text(d_text), "logit_scale": d_scale}
    return float(loss), flatten(grads)


loss, gradient = model(start)
count = sum(leaf.size for leaf in start.values())
print(f"{count:,} parameters; loss {loss:.3f}; ln 8 = {math.log(8):.3f}")

# %% tags=["numbers"]
assert 1.9 < loss < 2.6 and 1e6 < count < 2e6

# %% [markdown]
# The oldest rule is: go along the gradient, times a number that is called the learning rate. We try three rates, each ten times the last or more.
#
# **Predict.** A rate of 0.01 learns the eight pairs. What will a rate of 3 do? Will the loss become infinite, will it go up and down, or something else?

# %% alt="Three curves of the loss over forty steps of plain gradient descent. The smallest rate falls slowly, the middle one falls furthest, and the largest soon lies on the dashed line at the logarithm of eight and stays there." tags=["slide", "output"]
descents, ends = {}, {}
for rate in (0.001, 0.01, 3.0):
    params, descents[rate] = dict(start), []
    for _ in range(40):
        loss, gradient = model(params)
        descents[rate].append(loss)
        params = {
            name: theta - np.float32(rate) * gradient[name]
            for name, theta in params.items()
        }
    ends[rate] = params


def axes_of_losses(height=3.4):
    figure = Figure(figsize=(7.2, height), layout="constrained")
    ax = figure.subplots()
    ax.set(xlabel="step", ylabel="loss (nats)", yscale="log")
    ax.spines[["top", "right"]].set_visible(False)
    return figure, ax


figure, ax = axes_of_losses()
for (rate, losses), colour in zip(
    descents.items(), (plots.GREY, plots.BLUE, plots.ORANGE)
):
    ax.plot(losses, color=colour, label=f"rate {rate}")
ax.axhline(math.log(8), color=plots.RED, ls="--", lw=1, label="ln 8")
ax.set_title("gradient descent on eight pairs", loc="left", fontsize=11)
ax.legend(frameon=False)
figure

# %%
for rate, params in ends.items():
    features = encode_image(unflatten(params), images, config)[0]
    z = l2_normalize(features)[0]
    alike = (z @ z.T)[~np.eye(8, dtype=bool)].mean()
    slope = model(params)[1].values()
    length = math.sqrt(sum(float((g * g).sum()) for g in slope))
    print(
        f"rate {rate:5}: loss {descents[rate][-1]:.3f}, |gradient| {length:.3f}", end=""
    )
    print(f", mean cosine of two different pictures {alike:.3f}")

# %% tags=["numbers"]
assert descents[0.01][-1] < 0.1 * descents[0.001][-1] and descents[0.01][-1] < 0.1
assert (
    abs(np.median(descents[3.0][20:]) - math.log(8)) < 0.05
    and alike > 0.95
    and length < 0.1
)

# %% [markdown] tags=["answer"]
# Nothing explodes. The loss goes to $\ln 8$ and stays there. The first steps were so long that they threw the model to a place where all pictures have nearly the same embedding. There each name gets the probability $1/8$, and the gradient is as good as zero: hardly anything leads out again. Nothing raises an error, and the curve looks calm. **A loss that stays at $\ln N$ has learned nothing**: it is the one number to remember when you watch a training.

# %% [markdown]
# So the rate matters, and we had to guess it. Worse, there is one rate for over a million numbers. Let us look at how long their gradients are.

# %%
size = {name: float(np.sqrt((g * g).mean())) for name, g in model(start)[1].items()}
order = sorted(size, key=size.get)
for name in [*order[:2], order[len(order) // 2], *order[-2:]]:
    print(f"{name:52} typical gradient {size[name]:.4f}")

# %% tags=["numbers"]
assert size[order[-1]] > 30 * size[order[0]]

# %% [markdown]
# Between the smallest and the largest there is more than a factor of 30. What is far too long a step for one array is too short for another. And how large these numbers are is an accident: measure the loss in bits and not in nats, and all of them change, though nothing about the model has.

# %% [markdown] tags=["slide"]
# ## 2. AdamW
#
# Kingma and Ba (2015) had this idea. For each number, keep the mean of its past gradients, and the mean of their squares:
#
# $$m \leftarrow \beta_1 m + (1 - \beta_1)\, g \qquad\qquad v \leftarrow \beta_2 v + (1 - \beta_2)\, g^2$$
#
# $m$ says where the gradients point on the whole, $\sqrt v$ says how large they usually are. Divide one by the other, and the size is gone. If the gradients agree, the quotient is 1 or −1; if they contradict each other, $m$ is small and so is the step. The learning rate has now a meaning: it is *about how far a number moves in a step*, whatever its gradient is measured in.
#
# **Predict.** Both means begin at 0. So at first both are too small. Is the first step, with $\beta_1 = 0.9$ and $\beta_2 = 0.98$, then too short or too long? And the tenth? And the first, if $\beta_2$ is 0.999?

# %%
print("   t    m / √v, β₂ = 0.98     β₂ = 0.999     (all gradients are 1)")
quotient = {}
for t in (1, 2, 5, 10, 20, 40, 200):
    m = 1 - 0.9**t  # what m has become when all gradients were 1
    quotient[t] = [m / math.sqrt(1 - beta2**t) for beta2 in (0.98, 0.999)]
    print(f"{t:4}{quotient[t][0]:15.2f}{quotient[t][1]:20.2f}")

# %% tags=["numbers"]
assert 0.70 < quotient[1][0] < 0.72 and 3.1 < quotient[1][1] < 3.2
assert 1.5 < quotient[10][0] < 1.55 and quotient[5][1] > 5

# %% [markdown] tags=["answer"]
# The first is too short, by the factor $0.1 / \sqrt{0.02} = 0.71$; the tenth is too long, by half. With $\beta_2 = 0.999$ the first is three times too long, and those after it longer still: $v$ needs far more steps than $m$ to find out how large the gradients are. After $t$ gradients of 1, $m$ is $1 - \beta_1^t$, and should be 1. So divide by that:
#
# $$\hat m = \frac{m}{1 - \beta_1^t} \qquad \hat v = \frac{v}{1 - \beta_2^t} \qquad t = 1, 2, \dots$$

# %% [markdown]
# One thing is left: *weight decay*, which makes each weight a little smaller in each step, so that only what the data insist on stays large. The older way was to add $\tfrac\lambda2 \theta^2$ to the loss, and so $\lambda\theta$ to the gradient. With Adam that goes wrong.
#
# **Predict.** Two weights are 1, and their gradients are pure noise. For one the noise has the size 0.01, for the other 100. Which of them decays faster, if $\lambda\theta$ is added to the gradient?


# %%
def decay_of_a_weight(noise, in_gradient, steps=500, lr=1e-3, decay=0.2):
    """What 500 steps leave of weights of 1 (the mean of a thousand of them)."""
    rng, theta, m, v = np.random.default_rng(0), np.ones(1000), 0.0, 0.0
    for t in range(1, steps + 1):
        g = noise * rng.standard_normal(1000) + in_gradient * decay * theta
        m, v = 0.9 * m + 0.1 * g, 0.98 * v + 0.02 * g * g
        step = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.98**t)) + 1e-6)
        theta = theta - lr * (step + (not in_gradient) * decay * theta)
    return theta.mean()


left = {}
print("noise     λθ in the gradient     λθ off the weight itself")
for noise in (0.01, 1, 100):
    left[noise] = [decay_of_a_weight(noise, where) for where in (True, False)]
    print(f"{noise:5}{left[noise][0]:20.3f}{left[noise][1]:25.3f}")
print(f"(1 − lr λ)^500 is {(1 - 2e-4) ** 500:.3f}")

# %% tags=["numbers"]
assert left[0.01][0] < 0.6 and left[100][0] > 0.99
assert all(abs(pair[1] - (1 - 2e-4) ** 500) < 0.005 for pair in left.values())

# %% [markdown] tags=["answer"]
# The one with the small gradients: it loses nearly half, and the other nothing. For what stands in the gradient is divided by $\sqrt{\hat v}$ like the rest of it, so the decay depends on a size that was to be forgotten. Loshchilov and Hutter (2019) therefore take it off the weight itself. That is the W in AdamW, and then both weights decay alike.

# %% [markdown] tags=["more"]
# All together:
#
# $$\theta \leftarrow \theta - \mathrm{lr} \left( \frac{\hat m}{\sqrt{\hat v} + \varepsilon} + \lambda\, \theta \right)$$
#
# $\varepsilon$ keeps a number that never had a gradient from $0/0$. Both terms use the old $\theta$.
#
# **Write** it for one array. Return $m$ and $v$ as they are to be kept for the next step, without hats.


# %% tags=["exercise"]
@exercise("adamw")
def adamw(theta, m, v, g, t, lr, beta1=0.9, beta2=0.98, eps=1e-6, decay=0.2):
    """Step t = 1, 2, … of AdamW, for θ, m, v and a gradient g of one shape.

    lr: the learning rate; decay: λ. -> θ, m, v after the step
    """
    ### BEGIN SOLUTION
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    m_hat = m / (1 - beta1**t)
    v_hat = v / (1 - beta2**t)
    theta = theta - lr * (m_hat / (np.sqrt(v_hat) + eps) + decay * theta)
    return theta, m, v
    ### END SOLUTION


grade(adamw)

# %% [markdown] tags=["slide"]
# ## 3. A schedule
#
# **Predict.** In the first step of all, $\hat m = g$ and $\hat v = g^2$. How far does a number move whose gradient is large, and one whose gradient is nearly nothing?

# %%
gradient, moves = model(start)[1], []
for name, theta in start.items():
    zeros = np.zeros_like(theta)
    after = adamw(theta, zeros, zeros, gradient[name], 1, 1e-3, decay=0.0)[0]
    moves.append((after - theta).ravel())
moved = np.concatenate(moves)
alike = (np.abs(np.abs(moved) / 1e-3 - 1) < 0.05).mean()
print(f"{alike:.0%} of all numbers move by 0.001, as the rate says, within 5 %;")
print(f"{(moved == 0).mean():.0%} do not move: tokens that occur in no name.")
print(f"the whole step is {np.sqrt((moved**2).sum()):.2f} long.")
norm = math.sqrt(sum(float((g * g).sum()) for g in gradient.values()))
print(f"gradient descent with its best rate, 0.01, takes a step of {0.01 * norm:.2f}.")

# %% tags=["numbers"]
assert alike > 0.85 and 0.01 < (moved == 0).mean() < 0.1
assert np.sqrt((moved**2).sum()) > 3 * 0.01 * norm

# %% [markdown] tags=["answer"]
# Equally far. The first quotient is $g/|g|$, a sign. A gradient that is nothing but noise counts as much as one that matters, since after one gradient nobody can know which is which. So the first steps are the longest, and the least informed. Therefore training begins with short steps, and lengthens them while $v$ learns how large the gradients are. That is the *warm-up*.

# %% [markdown]
# At the end it is the other way round. Each batch has another gradient, and a step of constant length keeps the model wandering about the lowest point, at a distance that is as large as the step. So the steps become short again. CLIP lets the rate rise along a line, and fall along half a cosine:
#
# $$\mathrm{lr}(k) = \begin{cases} \text{peak}\;\dfrac{k + 1}{\text{warmup}} & k < \text{warmup} \\[2ex] \text{peak}\;\dfrac12\left(1 + \cos\left(\pi\,\dfrac{k - \text{warmup}}{\text{steps} - \text{warmup}}\right)\right) & \text{else} \end{cases}$$
#
# Here $k = 0, 1, \dots$ is the step. With $k + 1$ the first step is not lost: a rate of 0 would be a step for nothing.
#
# **Write** it.


# %% tags=["exercise"]
@exercise("learning_rate")
def learning_rate(step, steps, peak, warmup):
    """The rate of step 0 … steps − 1: a line up in warmup steps, half a cosine down."""
    ### BEGIN SOLUTION
    if step < warmup:
        return peak * (step + 1) / warmup
    share = (step - warmup) / (steps - warmup)
    return peak * 0.5 * (1 + math.cos(math.pi * share))
    ### END SOLUTION


grade(learning_rate)

# %% [markdown] tags=["slide"]
# ## 4. Not further than that
#
# Now and then a batch is odd, and its gradient is a hundred times as long as usual. To Adam a factor does not matter, or so we said.
#
# **Predict.** All gradients are 1, and only that of step 100 is 100. Is the step after it longer than usual or shorter, and how long does that last?

# %% alt="Length of Adam's step over four hundred steps. Without clipping it falls steeply at step 100, to a small part of what it was, and has not come back at the end. With clipping it is a level line." tags=["slide", "output"]
figure = Figure(figsize=(7.2, 3), layout="constrained")
ax = figure.subplots()
steps_taken = {}
for name, largest, colour in (
    ("as it comes", 100.0, plots.ORANGE),
    ("clipped at 1", 1.0, plots.BLUE),
):
    theta, m, v, steps_taken[name] = 0.0, 0.0, 0.0, []
    for t in range(1, 401):
        g = min(100.0 if t == 100 else 1.0, largest)
        after, m, v = adamw(theta, m, v, g, t, lr=1.0, decay=0.0)
        steps_taken[name].append(theta - after)
        theta = after
    ax.plot(range(1, 401), steps_taken[name], color=colour, label=name)
ax.set(xlabel="step", ylabel="length of the step / rate", ylim=(0, 1.4))
ax.set_title("one gradient of 100 among ones", loc="left", fontsize=11)
ax.legend(frameon=False, loc="upper right", ncols=2)
ax.spines[["top", "right"]].set_visible(False)
figure

# %% tags=["numbers"]
hurt = np.array(steps_taken["as it comes"])
assert hurt.max() < 1.05 and hurt[100:].min() < 0.2 and hurt[-1] < 0.95
assert np.allclose(steps_taken["clipped at 1"], 1, atol=1e-3)

# %% [markdown] tags=["answer"]
# It is shorter, and for hundreds of steps. $m$ forgets the odd gradient within some twenty steps, and $v$, which holds its *square*, 10,000, needs more than 300. Until then $\sqrt v$ is far too large, and the model hardly moves. One bad batch does not throw Adam off its way; it lames it.

# %% [markdown]
# So the gradient is made shorter where it is longer than some bound, before anything else sees it (Pascanu et al. 2013). Its *direction* is to stay. Therefore one length is measured, over all numbers of all arrays together, and all are multiplied by one factor.
#
# **Write** it. The norm that it had before is returned too: it belongs in the log, for it tells of trouble before the loss does.


# %% tags=["exercise"]
@exercise("clip_gradient")
def clip_gradient(gradient, largest):
    """{name: array} -> the same, at most `largest` long in all, and its norm before."""
    ### BEGIN SOLUTION
    norm = np.sqrt(sum((g * g).sum() for g in gradient.values()))
    shrink = largest / norm if norm > largest else 1.0
    return {name: g * shrink for name, g in gradient.items()}, norm
    ### END SOLUTION


grade(clip_gradient)

# %% [markdown] tags=["slide"]
# ## 5. The bound, after the update
#
# One parameter is special. The loss multiplies all cosines by $s = e^{\texttt{logit\_scale}}$, and when the pairs of a batch are all right, a larger $s$ always makes the loss smaller (notebook 8). So $s$ would grow for ever. CLIP does not let it above 100.
#
# Where should the bound stand? It could stand in the forward pass, `s = exp(min(logit_scale, ln 100))`. Or it is put on the parameter, after the step. Below, 150 easy batches ask for a large $s$, and then 150 hard ones ask for a small one.
#
# **Predict** what happens to $s$ in the second half, for each of the two.

# %% alt="The scale s over three hundred steps in two ways. Both rise past or to the dashed line at 100. With the bound in the forward pass the parameter stays level above it for the rest. With the bound after the update it falls soon after the batches become hard." tags=["slide", "output"]
rng = np.random.default_rng(0)
z_image = l2_normalize(rng.standard_normal((64, 16)))[0]
easy, hard = (
    l2_normalize(z_image + noise * rng.standard_normal(z_image.shape))[0]
    for noise in (0.12, 0.3)
)
top = math.log(100)
ways = {"bound in the forward pass": plots.ORANGE, "bound after the update": plots.BLUE}
scales = {}

figure = Figure(figsize=(7.2, 3.2), layout="constrained")
ax = figure.subplots()
for way, colour in ways.items():
    logit_scale, m, v, scales[way] = math.log(50), 0.0, 0.0, []
    for t in range(1, 301):
        z_text = easy if t <= 150 else hard
        used = min(logit_scale, top)  # what the loss sees
        g = clip_loss(z_image, z_text, used)[1]()[2]
        if way == "bound in the forward pass" and logit_scale > top:
            g = 0.0  # the slope of min(logit_scale, top) there
        logit_scale, m, v = adamw(logit_scale, m, v, g, t, lr=0.05, decay=0.0)
        if way == "bound after the update":
            logit_scale = min(logit_scale, top)
        scales[way].append(math.exp(logit_scale))
    ax.plot(scales[way], color=colour, label=way)
ax.axhline(100, color=plots.GREY, ls="--", lw=1)
ax.axvspan(150, 300, color=plots.GREY, alpha=0.12, lw=0)
ax.annotate("the batches are hard now", (154, 7), color="#555555")
ax.set(xlabel="step", ylabel="s = exp(logit_scale)", ylim=(0, 130), xlim=(0, 300))
ax.legend(frameon=False, loc="center left", bbox_to_anchor=(0.02, 0.3))
ax.spines[["top", "right"]].set_visible(False)
figure

# %% tags=["numbers"]
stuck, free = scales.values()
assert stuck[-1] > 100 and abs(stuck[-1] - stuck[149]) < 0.01 * stuck[149]
assert free[149] > 99 and free[-1] < 40 and max(free) < 100.001

# %% [markdown] tags=["answer"]
# With the bound in the forward pass, $s$ stays where it is, for ever. $\min(x, \text{top})$ is constant above the bound, so its gradient there is exactly zero. Once a step has carried the parameter across, nothing ever asks it to come back: it is a kink, and behind it the model is blind. With the bound after the update the forward pass has no kink. The parameter stands *at* the bound, where its gradient is alive, and it leaves as soon as the batches ask for it.

# %% [markdown]
# **Write** the whole step of a model:
#
# 1. Clip the gradient, all arrays together.
# 2. AdamW, array by array. Only what has two axes or more decays, the matrices and kernels. A bias, the γ of a norm and the temperature do not: pulling γ towards 0 would switch its layer off, and pulling $\ln s$ towards 0 would ask for $s = 1$.
# 3. The bound, on `logit_scale` alone.


# %% tags=["exercise"]
@exercise("one_step")
def one_step(params, gradient, m, v, t, lr, decay=0.2, largest=1.0):
    """Step t = 1, 2, … of a whole model. All four are {name: array}.

    -> params, m, v after it: clipped at `largest`, matrices decayed, s at most 100
    """
    ### BEGIN SOLUTION
    gradient, norm = clip_gradient(gradient, largest)
    new_params, new_m, new_v = {}, {}, {}
    for name, theta in params.items():
        part = decay if theta.ndim > 1 else 0.0
        new_params[name], new_m[name], new_v[name] = adamw(
            theta, m[name], v[name], gradient[name], t, lr, decay=part
        )
    bounded = np.minimum(new_params["logit_scale"], np.log(100))
    new_params["logit_scale"] = bounded
    return new_params, new_m, new_v
    ### END SOLUTION


grade(one_step)

# %% [markdown]
# **Look.** Is it the library's? The library lays all parameters in one vector and works in place, which is faster. Five steps of each, from the same start:

# %%
flat = Flat(unflatten(start))
optimizer, slopes = AdamW(flat), Flat(unflatten(start))
mine = dict(start)
m = {name: np.zeros_like(theta) for name, theta in start.items()}
v = dict(m)
for t in range(1, 6):
    gradient = model(mine)[1]
    slopes.write(unflatten(gradient))
    optimizer.step(slopes, 1e-3)
    mine, m, v = one_step(mine, gradient, m, v, t, 1e-3)
theirs = flatten(flat.tree)
apart = max(float(np.abs(theirs[name] - mine[name]).max()) for name in mine)
far = max(float(np.abs(mine[name] - start[name]).max()) for name in mine)
print(f"the parameters moved by up to {far:.0e}, and are {apart:.0e} apart.")

# %% tags=["numbers"]
assert apart < 1e-2 * far

# %% [markdown] tags=["slide"]
# ## 6. Eight pairs by heart
#
# Before you train on thousands of pictures, train on eight. A model that cannot bring the loss of eight pairs to nothing has a bug, and so you know it in seconds rather than in hours.
#
# And then a task that nobody can learn: the seventh pair takes the place of the eighth, so that *grinning face* is in the batch two times, with its picture. To the loss as it stands here, the other one is a wrong answer, and yet it is the same.
#
# **Predict.** At which loss will the second run stop? It is not a guess: for six of the pairs nothing is in the way, and for the two that are alike the best that one can do is …

# %%
STEPS, PEAK = 60, 1e-3


def train(images, tokens):
    """The losses of STEPS steps, the schedule and your step included."""
    params, losses = dict(start), []
    m = {name: np.zeros_like(theta) for name, theta in params.items()}
    v = dict(m)
    for k in range(STEPS):
        loss, gradient = model(params, images, tokens)
        losses.append(loss)
        lr = learning_rate(k, STEPS, PEAK, warmup=10)
        params, m, v = one_step(params, gradient, m, v, k + 1, lr)
        params = {name: theta.astype(np.float32) for name, theta in params.items()}
    return losses


twice = [0, 1, 2, 3, 4, 5, 6, 6]
losses = train(images, tokens)
doubled = train(images[twice], tokens[twice])
print(f"eight pairs:         loss {losses[-1]:.1e} after {STEPS} steps")
print(f"one of them twice:   loss {doubled[-1]:.4f} after {STEPS} steps")

# %% alt="Loss over sixty steps on a logarithmic axis. Gradient descent falls slowly. AdamW on eight pairs breaks through the dashed line at the logarithm of eight within a few steps and falls to about a ten thousandth. With one pair twice it falls to a second dashed line at two ln 2 over eight and stays on it." tags=["slide", "output"]
floor = 2 * math.log(2) / 8
figure, ax = axes_of_losses(3.8)
ax.plot(
    descents[0.01], color=plots.GREY, label="gradient descent, the best of three rates"
)
ax.plot(losses, color=plots.BLUE, label="your step")
ax.plot(doubled, color=plots.ORANGE, label="your step, one pair twice")
for level, text in ((math.log(8), "ln 8"), (floor, "2 ln 2 / 8")):
    ax.axhline(level, color=plots.RED, ls="--", lw=1)
    ax.annotate(
        text,
        (STEPS, level),
        (0, 3),
        textcoords="offset points",
        ha="right",
        color=plots.RED,
    )
ax.set_title("eight pairs, learned by heart", loc="left", fontsize=11)
ax.legend(frameon=False, loc="center right", bbox_to_anchor=(1, 0.33))
figure

# %% tags=["numbers"]
assert losses[-1] < 1e-3 and losses[10] < math.log(8)
assert abs(doubled[-1] / floor - 1) < 0.05

# %% [markdown] tags=["answer"]
# At $2 \ln 2 / 8 \approx 0.173$. For six pairs the probability of the right answer can be 1, and they cost nothing. The two that are alike have to share: $\tfrac12$ each, which costs $\ln 2$ for each of the two, in the rows and in the columns alike. The loss is the mean over eight, so $2 \ln 2 / 8$. That is why `train` never draws one thing twice into a batch, unless it tells the loss which pairs belong together.

# %% [markdown] tags=["slide"]
# ## 7. A batch in pieces
#
# A batch of thousands does not fit into memory at once. In most trainings that is no trouble: take the gradients of the pieces, and average them.
#
# **Predict.** Is the gradient of CLIP's loss of eight pairs the mean of those of two times four?

# %%
whole_loss, whole = model(start)
halves = [
    model(start, images[half], tokens[half]) for half in np.split(np.arange(8), 2)
]
mean = {name: (halves[0][1][name] + halves[1][1][name]) / 2 for name in whole}


def inner(a, b):
    return sum(float((a[name] * b[name]).sum()) for name in a)


cosine = inner(whole, mean) / math.sqrt(inner(whole, whole) * inner(mean, mean))
print(f"the loss of eight {whole_loss:.3f}; of each four", end=" ")
print(" and ".join(f"{loss:.3f}" for loss, _ in halves))
print(f"cosine between the gradient of eight and the mean of two: {cosine:.2f}")

# %%
pieces = {}
for size_of_piece in (8, 4, 2):
    slopes = Flat(unflatten(start))
    micro_batches = [
        (images[i : i + size_of_piece], tokens[i : i + size_of_piece])
        for i in range(0, 8, size_of_piece)
    ]
    loss_and_gradient(unflatten(start), micro_batches, config, slopes)
    pieces[size_of_piece] = slopes.vector.copy()
    error = np.abs(pieces[size_of_piece] - pieces[8]).max() / np.abs(pieces[8]).max()
    print(f"the library, in pieces of {size_of_piece}: gradient differs by {error:.0e}")

# %% tags=["numbers"]
assert 0.5 < cosine < 0.99 and max(loss for loss, _ in halves) < whole_loss
assert all(
    np.abs(p - pieces[8]).max() < 1e-4 * abs(pieces[8]).max() for p in pieces.values()
)

# %% [markdown] tags=["answer"]
# No. In four pairs each picture has three wrong names beside it, in eight it has seven: the pieces are an easier exam, and the questions between them are never asked. But the loss needs only the *embeddings* of the whole batch, and these are small. So embed piece by piece and keep the features; take the loss of all features together, once; and then take each piece's part of the gradient back through its encoder, and add up. Nothing is lost but the rounding. With `recompute=True` the library even forgets each piece's activations, and runs its forward pass a second time. That is all of [train_step.py](../miniclip/train_step.py).

# %% [markdown]
# ## What you know now
#
# **Explain**, in a sentence or two each:
#
# 1. Somebody multiplies the loss by 1000. What changes in a run with gradient descent, what with AdamW, and what with AdamW and clipping at 1?
# 2. A run with a batch of 256 shows a calm loss of 5.55 from the third step on. What has happened?
# 3. Why does the bound of `logit_scale` not stand in the forward pass, where one can see it?

# %% [markdown] tags=["answer"]
# 1. With gradient descent, each step is 1000 times as long. With AdamW nothing changes (but for ε). With clipping, every gradient is now cut to length 1, so that all batches count alike, the odd ones and the dull ones; the direction of each stays.
# 2. 5.55 is $\ln 256$: all embeddings are alike, and it has learned nothing. Most likely the first steps were too long: a lower rate, or a longer warm-up.
# 3. There its gradient above the bound is zero, and what is once above it never comes back.

# %% [markdown]
# ## Going on
#
# - **No warm-up.** Train the eight pairs with `warmup=0` and with 10, for peaks of 0.001, 0.002 and 0.004. At which peak does it matter, and in which steps does the difference arise?
# - **What clipping costs.** Print the norm of every step. How many of the first fifty are clipped at 1? What does clipping then do to the schedule?
# - **Averaging.** Keep a running mean of the parameters beside them, $\bar\theta \leftarrow 0.9\,\bar\theta + 0.1\,\theta$, in a run with a constant rate. Compare the loss at $\theta$ and at $\bar\theta$. (The library evaluates and keeps the mean.)
# - **A step for matrices.** AdamW looks at each number alone. Take the momentum of a weight matrix, $U\Sigma V^\top$, and go along $UV^\top$ instead, as far in its weakest direction as in its strongest. This is Muon (Jordan et al. 2024); [muon.py](../miniclip/training/muon.py) makes it of products alone, and `python -m miniclip train` uses it. Train the eight pairs with both. Which rate does each want?
