# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown] tags=["slide"]
# # 10 · Your CLIP
#
# *Goal:* the functions that you have written train a CLIP, and it names pictures by an artist it never saw.
# *Needs:* notebooks 1 to 9, as far as you have them; for what is missing the library stands in. *Time:* about 60 minutes, of which the training takes a few.
# *Mirrors:* [training](../miniclip/training/) and [zeroshot.py](../miniclip/evaluation/zeroshot.py).
#
# Each of your functions was proven by itself, by a grader that knew the right answer. Now they have to work together, on a task to which nobody has an answer sheet. **A layer is judged by its gradient. A model is judged by what it does with what it has never seen.** So this notebook has two halves: a run, and an exam.

# %%
# %matplotlib inline
import copy
import math
import tempfile
import time
from collections import Counter
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from miniclip import CLIP, encode_image, encode_text, plots
from miniclip.backend import worker_threads
from miniclip.course import (
    exercise,
    exercises_of,
    find_exercise,
    grade,
    load_answers,
    notebooks,
    put_in,
    take_out,
)
from miniclip.data import (
    Augmentation,
    augment,
    emoji_data,
    emoji_names,
    emoji_pictures,
    plain,
)
from miniclip.init import initialize, model_config
from miniclip.layers import softmax
from miniclip.preprocess import normalize
from miniclip.tokenizer import BASE, Tokenizer, words_of
from miniclip.train_step import is_statistic, loss_and_gradient
from miniclip.training import Batches, keep_freed_memory, preset
from miniclip.tree import Flat, flatten, tree_map, unflatten

# %% [markdown] tags=["slide"]
# ## 1. Whose work is it?
#
# Your answers are taken out of the notebooks that lie beside this one, and graded once more. What is right will be put into the library. What is missing or wrong does not stop you: the library's own function stays where it is.

# %%
chapters = [name for name in notebooks() if "02" < name < "10"]
found = [Path(f"{name}.ipynb") for name in chapters if Path(f"{name}.ipynb").exists()]
answers, unreadable = {}, []
with redirect_stdout(StringIO()):  # the table says it, in fewer words
    for path in found:
        try:
            answers |= load_answers(path)
        except ValueError as problem:  # no notebook
            unreadable.append(problem)
    verdicts = {name: grade(function) for name, function in answers.items()}
yours = {name: answers[name] for name, verdict in verdicts.items() if verdict}
wrong = {name: v for name, v in verdicts.items() if not v and v.is_written}


def mark(name):
    return f"{'✓' if name in yours else '✗' if name in wrong else '·'} {name}"


print("✓ yours    ✗ yours, and not right yet: lent    · not written: lent\n")
for chapter in chapters:
    row = [mark(one.name) for one in exercises_of(chapter)]
    print(f"{int(chapter[:2]):2}  {'   '.join(row)}")
for sentence in (*unreadable, *wrong.values()):
    print(f"\n{sentence}")

# %% tags=["numbers"]
assert len(yours) == sum(len(exercises_of(chapter)) for chapter in chapters) > 25

# %% [markdown]
# A few of these have no place in a training: `convolve`, say, was the slow twin of `conv2d`. The others stand in the library from the next cell on, in every module that uses them. Three things this notebook calls by name: the merges of the vocabulary, the rate, and the step.


# %%
def take(name):
    """Yours where it is right, or the library's."""
    return yours.get(name) or find_exercise(name).reference


called = [
    name for name in ("learn_merges", "one_step", "learning_rate") if name in yours
]
placed = put_in(*yours.values())
clip_loss = take("clip_loss")  # by name too, in two cells below
print(f"{len(placed.names)} functions of yours are in the library now:")
print(", ".join(placed.names) or "none")
print(f"called by name: {', '.join(called) or 'none'}")

# %% tags=["numbers"]
assert {"conv2d", "batch_norm", "attend", "layer_norm", "clip_loss"} <= set(
    placed.names
)
assert len(placed.names) > 15 and len(called) == 3

# %% [markdown]
# Each was proven alone. Are they right together? One number tells, by the complex step of notebook 1: the slope of the whole model's loss, from pixels and words to the last logarithm, along a random direction through all parameters at once. The first number below comes from all the backward passes, the second from forward passes alone.


# %%
def whole_loss(params, images, tokens, config):
    """The loss of some pairs; backward gives the gradient of every parameter."""
    image_features, backward_image = encode_image(params, images, config, training=True)
    text_features, backward_text = encode_text(params, tokens, config)
    loss, backward_loss = clip_loss(
        image_features, text_features, params["logit_scale"]
    )

    def backward():
        d_image, d_text, d_scale = backward_loss()
        grads = {**backward_image(d_image), **backward_text(d_text)}
        return flatten({**grads, "logit_scale": d_scale})

    return loss, backward


rng = np.random.default_rng(0)
four = ["red apple", "lemon", "cat face", "dog face"]
code = {entry["name"]: entry["code"] for entry in emoji_names()}


def drawings(style, names):
    """What one artist made of these things: uint8 (len(names), 64, 64, 4)."""
    pictures, codes = emoji_pictures(style)
    return pictures[[codes.index(code[name]) for name in names]]


small = Tokenizer.train(four, vocab_size=520)
config = model_config("resnet-tiny", vocab_size=small.vocab_size)
params = tree_map(
    lambda leaf: leaf + 0.05 * rng.standard_normal(leaf.shape), initialize(config, 0)
)
images = normalize(plain(drawings("twemoji", four), 32).astype(float), config)
tokens = small(four, config["text_cfg"]["context_length"])
direction = tree_map(lambda leaf: rng.standard_normal(leaf.shape), params)

gradient = whole_loss(params, images, tokens, config)[1]()
along = flatten(direction)
by_backward = sum(
    float((gradient[name] * along[name]).sum())
    for name in along
    if not is_statistic(name)
)
moved = tree_map(lambda leaf, u: leaf + 1e-30j * u, params, direction)
by_forward = float(whole_loss(moved, images, tokens, config)[0].imag / 1e-30)
print(f"all backward passes  {by_backward:+.15e}")
print(f"all forward passes   {by_forward:+.15e}")

# %% tags=["numbers"]
assert abs(by_backward / by_forward - 1) < 1e-9

# %% [markdown] tags=["slide"]
# ## 2. What it is shown
#
# The pictures are emoji. Several artists have drawn the same things, and each thing has a name. Below, each row is one artist. The last row is **Fluent, whom no training step ever sees**: that is the exam.

# %% alt="A grid of small pictures: eight rows, one for each artist, and eight columns, one for each thing, such as a guitar or a crown. Down a column the same thing is drawn in very different ways. The last row is the artist of the exam." tags=["slide", "output"]
training, exams = emoji_data()
exam = exams[0]
things = ["dog face", "hamburger", "guitar", "crown", "ferris wheel", "jack-o-lantern"]
things += ["house with garden", "palm tree"]
artists = ["twemoji", "noto", "blob", "noto-line", "emojione", "fxemoji", "streamline"]
sheet = np.concatenate([drawings(style, things) for style in [*artists, "fluent"]])
order = np.arange(len(sheet)).reshape(8, -1)
figure = plots.retrieval_grid([*artists, "fluent: the exam"], sheet, order)
figure.set_dpi(66)
figure

# %%
print(f"{len(training):,} pictures of {len(training.captions):,} things", end=" ")
print(f"by {len(training.styles)} sets of drawings")
print(f"the exam: {len(exam):,} pictures, {len(exam.names):,} names to choose from")

# %% tags=["numbers"]
assert len(exam) == len(exam.names) == 1586 and len(training) > 10_000
assert "fluent" not in training.styles

# %% [markdown]
# To us, a column is one thing. To a computer two guitars are 12,288 numbers that hardly agree. The model has to find out what a column has in common, and all that it can go by are names.
#
# There are only a few drawings of each thing, and a network could learn them by heart. So a picture is never used twice as it is. Each time it is turned, stretched, shifted and recoloured. What survives all that is the thing. Change too little, and the drawing is learned in its place; change too much, and the thing is gone.

# %% alt="Three rows of nine guitars made from one drawing. In the first row they hardly differ, in the second they are turned, stretched and recoloured, in the third most are hard to recognise." tags=["more", "output"]
STEPS, BATCH, VOCABULARY = 340, 256, 4096
choices = {"steps": STEPS, "batch_size": BATCH, "vocab_size": VOCABULARY}
settings = preset("default", **choices, optimizer="adamw", learning_rate=2e-3)
guitars, parts = drawings("noto", ["guitar"] * 9), Augmentation(**settings.augmentation)
redrawn = [
    picture
    for strength in (0.2, 1, 4)
    for picture in augment(guitars, np.random.default_rng(1), 64, strength, parts)
]
redrawn = [(255 * picture.transpose(1, 2, 0)).astype(np.uint8) for picture in redrawn]
rows = ["too little", "as in the run below", "too much"]
figure = plots.retrieval_grid(rows, redrawn, np.arange(27).reshape(3, 9))
figure.set_dpi(72)
figure

# %% [markdown]
# The vocabulary is learned from the captions, with the merges of notebook 7. (Yours counts every pair anew for every merge, and takes up to a minute. The library's corrects its counts.)

# %%
words = Counter(
    w for texts in training.captions for text in texts for w in words_of(text)
)
tokenizer = Tokenizer(take("learn_merges")(words, VOCABULARY - len(BASE) - 2))
print(f"{tokenizer.vocab_size:,} tokens from {len(words):,} different words")
for text in ("guitar", "umbrella with rain drops", "a purple submarine"):
    pieces = [tokenizer.tokens[i].replace("</w>", "") for i in tokenizer.encode(text)]
    print(f"{text:26}{' | '.join(pieces)}")

# %% tags=["numbers"]
assert tokenizer.vocab_size == VOCABULARY

# %% [markdown] tags=["slide"]
# ## 3. A run is a state, and a rule
#
# In notebook 9 you wrote one step. A run is many of them, one after the other; and there is not much more to it. All that a run *is* at a moment fits into one dictionary, its **state**:
#
# | | |
# |---|---|
# | `"t"` | how many steps were taken |
# | `"params"` | the parameters, {name: array} |
# | `"m"`, `"v"` | AdamW's two means, of each parameter |
# | `"average"` | a moving average of the parameters |
#
# The rule leads from one state to the next. Nothing else may be remembered anywhere, and then a run can be stopped and go on as if nothing had happened.
#
# The last of these is new. The parameters tremble: each batch pulls them somewhere else. Their average over the last steps does not, and names more pictures rightly. It costs one line for each step:
#
# $$\bar\theta \leftarrow d\,\bar\theta + (1 - d)\,\theta \qquad\qquad d = \min\Big(0.98,\ \frac{t}{t + 9}\Big)$$
#
# **Predict.** Why is $d$ not simply 0.98 from the start? What would the average be after 50 steps?

# %% [markdown] tags=["answer"]
# $0.98^{50}$ is more than a third: so much of it would still be the parameters of before the first step, which know nothing. With $t/(t+9)$ a young average forgets fast. At $t = 1$ it keeps a tenth of the start, and at $t = 50$ next to nothing of it is left.

# %% [markdown]
# **Write** it. $t = 1, 2, \dots$ is the step that has just been taken.


# %% tags=["exercise"]
@exercise("moving_average")
def moving_average(average, params, t, decay=0.98):
    """The average, {name: array}, once the parameters of step t are in it."""
    ### BEGIN SOLUTION
    kept = min(decay, t / (t + 9))
    return {
        name: kept * average[name] + (1 - kept) * theta
        for name, theta in params.items()
    }
    ### END SOLUTION


grade(moving_average)

# %% [markdown]
# Now the run. In each step $k = 0, 1, \dots$ the slope is taken on batch $k$, the step is made, and the average looks on. The run does not know what it trains. It is given three functions:
#
# - `slope(params, k)` gives the loss of batch $k$ and its gradient;
# - `step(params, gradient, m, v, t, lr)` is your `one_step`, which counts its steps from $t = 1$;
# - `rate(k)` is the learning rate of step $k$.
#
# **Write** it, so that it goes on from any state.


# %% tags=["exercise"]
@exercise("training_run")
def training_run(state, until, slope, step, rate):
    """A run goes on until `until` steps are taken since its beginning.

    state: {"t", "params", "m", "v", "average"}, as it is before.
    -> the state after it, a new dict, and a list of the loss of each step
    """
    ### BEGIN SOLUTION
    params, m, v = state["params"], state["m"], state["v"]
    average, losses = state["average"], []
    for k in range(state["t"], until):
        loss, gradient = slope(params, k)
        params, m, v = step(params, gradient, m, v, k + 1, rate(k))
        average = moving_average(average, params, k + 1)
        losses.append(loss)
    state = {"t": state["t"] + len(losses), "params": params, "m": m, "v": v}
    return {**state, "average": average}, losses
    ### END SOLUTION


grade(training_run)

# %% [markdown] tags=["slide"]
# ### Killed, and going on
#
# A run of an hour is killed after 40 minutes: somebody closed the laptop. What was kept decides what comes next.
#
# Try it on something small: 200 pictures and 200 texts that are nothing but free points on a sphere, and a batch of 32 of them. The run of 300 steps is killed at 150. One person has kept the whole state. Another has kept the parameters and the average and $t$, but not $m$ and $v$. A third has kept everything except $t$, and begins to count at 0.
#
# **Predict.** Which of them will notice? Which run ends with the same parameters as one that was never killed: nearly the same, or the same in every bit?

# %% alt="Loss over three hundred steps on a logarithmic axis. Up to step 150 there is one curve. From there on the run with the whole state goes on falling. The one without its moments is several times higher for some fifty steps. The one that counts from 0 starts low and then rises high above both." tags=["slide", "output"]
rng = np.random.default_rng(0)
free = {name: rng.standard_normal((200, 8)) for name in ("pictures", "texts")}
free["logit_scale"] = np.array(math.log(10))
one_step, learning_rate = take("one_step"), take("learning_rate")


def slope_of_points(params, k):
    """The loss of 32 of the pairs, which k decides, and its gradient."""
    few = np.random.default_rng([0, k]).choice(200, 32, replace=False)
    pictures, texts = params["pictures"][few], params["texts"][few]
    loss, backward = clip_loss(pictures, texts, params["logit_scale"])
    gradient = {name: np.zeros_like(theta) for name, theta in params.items()}
    gradient["pictures"][few], gradient["texts"][few], d_scale = backward()
    return float(loss), {**gradient, "logit_scale": d_scale}


def rate_of_points(k):
    return learning_rate(k, 300, peak=0.1, warmup=20)


def copied(state):
    """Its arrays anew, for a step that writes into them."""
    return {part: copy.deepcopy(tree) for part, tree in state.items()}


def beginning(params):
    """The state before the first step."""
    zeros = {name: np.zeros_like(theta) for name, theta in params.items()}
    state = {"params": params, "m": zeros, "v": dict(zeros), "average": dict(params)}
    return {"t": 0, **copied(state)}


def run_of_points(state, until):
    state = copied(state)
    return training_run(state, until, slope_of_points, one_step, rate_of_points)


never, smooth = run_of_points(beginning(free), 300)
killed, first_half = run_of_points(beginning(free), 150)
fresh = beginning(killed["params"])
kept = {
    "all of it": killed,
    "not m and v": {**killed, "m": fresh["m"], "v": fresh["v"]},
    "not t": {**killed, "t": 0},
}
figure = Figure(figsize=(7.2, 3.6), layout="constrained")
ax = figure.subplots()
ax.plot(first_half, color=plots.GREY, lw=1.2)
apart, second_half = {}, {}
colours = plots.BLUE, plots.ORANGE, plots.PURPLE
for (what, state), colour in zip(kept.items(), colours):
    ends, second_half[what] = run_of_points(state, state["t"] + 150)
    ax.plot(range(150, 300), second_half[what], color=colour, lw=1.2, label=what)
    apart[what] = max(
        float(np.abs(theta - never["params"][name]).max())
        for name, theta in ends["params"].items()
    )
ax.axvline(150, color=plots.RED, ls="--", lw=1)
ax.annotate("killed", (147, 2e-4), ha="right", color=plots.RED)
ax.set(xlabel="step", ylabel="loss of the batch (nats)", yscale="log", ylim=(1e-4, 20))
ax.legend(frameon=False, title="what was kept", loc="lower left")
ax.spines[["top", "right"]].set_visible(False)
figure

# %%
for what, number in apart.items():
    print(f"kept: {what:12}  parameters at the end apart by {number:.2g}")

# %% tags=["numbers"]
assert apart["all of it"] == 0.0 and min(apart["not m and v"], apart["not t"]) > 0.1
assert np.mean(second_half["not m and v"][10:40]) > 3 * np.mean(
    second_half["all of it"][10:40]
)
assert np.mean(second_half["not t"][-20:]) > 20 * np.mean(
    second_half["all of it"][-20:]
)

# %% [markdown] tags=["answer"]
# None of them is told: no run raises an error. With the whole state it is the same *in every bit*. Without $m$ and $v$ the steps have no longer the right length, until the means have found out again how large the gradients are. It gets over that, and ends somewhere else. Without $t$ the warm-up and the high rates come once more, and what was settled is stirred up.
#
# And the batches? There is no generator of random numbers in the state, for none is needed: the batch of step $k$ is drawn from a new one, whose seed is made of $k$. That is how the library's [batches](../miniclip/training/batches.py) do it too.

# %% [markdown] tags=["slide"]
# ## 4. Your CLIP
#
# Now the real thing. Three functions say what is trained. The slope is that of a whole batch of 256 pairs, in which no thing comes twice; on its way through the encoders and the loss it meets your functions. The step is yours as well.
#
# One thing needs care. Batch norm keeps running averages of its inputs. They lie among the parameters, but the loss does not depend on them, and AdamW has no business with them. In place of a gradient, the library hands out *how far they are from this batch's*, and they go a tenth of that way.


# %%
config = model_config("resnet-tiny", vocab_size=tokenizer.vocab_size)
batches = Batches(training, tokenizer, config, settings)
untrained = flatten(initialize(config, seed=0))
memory = Flat(unflatten(untrained))  # where each gradient is written
keep_freed_memory()


def slope_of_pairs(params, k):
    """The loss of 256 pairs, and its gradient, {name: array}."""
    micro_batches = batches(k, pool.map)
    result = loss_and_gradient(
        unflatten(params), micro_batches, config, memory, pool.map
    )
    return float(result["loss"]), flatten(memory.tree)


def step_of_model(params, gradient, m, v, t, lr):
    """Your step, for all but the running averages of batch norm."""
    learned = [name for name in params if not is_statistic(name)]
    trees = [
        {name: tree[name] for name in learned} for tree in (params, gradient, m, v)
    ]
    after, m, v = one_step(*trees, t, lr, decay=settings.weight_decay)
    after = {name: theta.astype(np.float32) for name, theta in after.items()}
    for name in params.keys() - after.keys():
        after[name] = params[name] - np.float32(0.1) * gradient[name]
    return after, m, v


def rate_of_run(k):
    return learning_rate(k, STEPS, settings.learning_rate, settings.warmup)


def save(path, state):
    """A state as a file of arrays."""
    parts = {key: tree for key, tree in state.items() if key != "t"}
    named = {f"{key}/{n}": x for key, tree in parts.items() for n, x in tree.items()}
    np.savez(path, t=state["t"], **named)


print(f"{sum(theta.size for theta in untrained.values()):,} parameters")

# %% [markdown]
# And the exam. Embed the pictures, embed the names, both on the unit sphere. A picture is named rightly if the cosine with its own name is the highest of all; or, with $k$ guesses, if it is among the $k$ highest. What counts is the *right name's place*: it is one more than the number of names that score at least as high. So a model that gives all names the same score is not right by luck: ties count against it.
#
# **Predict.** The pictures need not be put on the sphere for this, and the names must. Why?

# %% [markdown] tags=["answer"]
# The length of a picture's features multiplies its whole row of scores, and so the order in it stays. The length of a name's features multiplies its column: a long name would be ahead in every row, for no other reason than its length.

# %% [markdown]
# **Write** it.


# %% tags=["exercise"]
@exercise("top_k_accuracy")
def top_k_accuracy(image_features, text_features, answer, k=1):
    """Which share of the pictures has its right name among the k first.

    image_features (M, E) and text_features (K, E): any length, none of them 0.
    answer (M,): the right name of each picture, 0 … K − 1. -> a number from 0 to 1
    """
    ### BEGIN SOLUTION
    names = text_features / np.sqrt((text_features**2).sum(1, keepdims=True))
    scores = image_features @ names.T
    right = scores[np.arange(len(answer)), answer]
    place = (scores >= right[:, None]).sum(1)
    return float((place <= k).mean())
    ### END SOLUTION


grade(top_k_accuracy)

# %% [markdown]
# **Predict**, before you run the next cell. What is the loss of the first batch: $\ln 256 \approx 5.5$, less, or more? How many of 1,586 pictures does the untrained model name rightly? And the trained one?

# %%
log, seen = [], {}


def take_exam(state):
    """The averaged model meets the artist it never saw. The scores go into the log."""
    clip = CLIP(unflatten(state["average"]), config, tokenizer)
    pictures, names = clip.encode_image(exam.pictures), clip.encode_text(exam.names)
    first, fifth = (top_k_accuracy(pictures, names, exam.answer, k) for k in (1, 5))
    seen[state["t"]] = pictures, names
    row = {"eval/Fluent/top1": first, "eval/Fluent/chance": 1 / len(exam.names)}
    log.append({"step": state["t"], "top5": fifth, **row})
    print(f"step {state['t']:3}: right at the first guess {first:6.2%}", end="")
    print(f", among five {fifth:6.2%}", flush=True)


at_first = beginning(untrained)
for moment in (at_first["m"], at_first["v"]):  # AdamW has none of a running average
    for name in filter(is_statistic, untrained):
        del moment[name]
state, losses = copied(at_first), []
take_exam(state)
began = time.perf_counter()
with worker_threads() as pool, tempfile.TemporaryDirectory() as folder:
    for until in (STEPS // 4, STEPS // 2, 3 * STEPS // 4, STEPS):
        state, more = training_run(
            state, until, slope_of_pairs, step_of_model, rate_of_run
        )
        losses += more
        save(Path(folder) / "state.npz", state)
        take_exam(state)
log += [{"step": k, "loss": loss} for k, loss in enumerate(losses)]
clip = CLIP(unflatten(state["average"]), config, tokenizer)
print(f"{STEPS} steps in {time.perf_counter() - began:.0f} s;", end=" ")
print(f"the loss fell from {losses[0]:.2f} to {np.mean(losses[-10:]):.2f}")

# %% alt="Two panels. On the left the loss over the steps: it begins above the dashed line of guessing, falls through it at once and goes on falling. On the right the share of the unseen artist's pictures that are named rightly: next to nothing before the training, and higher at each of the four exams after it." tags=["slide", "output"]
figure = Figure(figsize=(10.5, 3.6), layout="constrained")
left, right = figure.subplots(1, 2)
plots.loss_curve(log, BATCH, left)
plots.accuracy_curve(log, right)
right.set_title("An artist it never saw", loc="left", fontsize=11)
figure

# %% tags=["numbers"]
top1 = [row["eval/Fluent/top1"] for row in log if "top5" in row]
assert math.log(BATCH) < losses[0] < math.log(BATCH) + 1.5
assert np.mean(losses[-10:]) < 3 and top1[0] < 0.005
assert 0.10 < top1[-1] < 0.25 and top1 == sorted(top1)

# %% [markdown] tags=["answer"]
# The first loss is *more* than $\ln 256$. An untrained model does not think all names equally likely. It has opinions without a reason, and whoever is sure of what he does not know pays for it. The first steps teach it to be unsure, and only then does it learn.
#
# Of the pictures it names next to none rightly at first, as guessing would. After a few minutes it finds the right one of 1,586 names for more than one picture in ten, drawn by somebody whose hand it has never seen. These are your layers, your loss and your step.
#
# How long to train, and with which settings, was chosen with *another* artist held out: `emoji_data(hold_out_style="noto")`. Who chooses by the exam has seen it.

# %% [markdown]
# ### Was it yours?
#
# Take your functions out of the library again, and make the same first steps with those that were there before. **Predict** by how much the losses will differ.

# %%
take_out()
times, first = {}, {}
for whose in ("the library's", "yours"):
    if whose == "yours":
        put_in(*yours.values())
    with worker_threads() as pool:
        began = time.perf_counter()
        _, first[whose] = training_run(
            copied(at_first), 3, slope_of_pairs, step_of_model, rate_of_run
        )
        times[whose] = (time.perf_counter() - began) / 3
    print(f"{whose:14}", "  ".join(f"{loss:.6f}" for loss in first[whose]), end="")
    print(f"   {times[whose]:.2f} s a step")

# %% tags=["numbers"]
assert first["yours"] == losses[:3]
assert np.abs(np.subtract(*first.values())).max() < 0.02

# %% [markdown] tags=["answer"]
# By the last digits at most: numbers that are added in another order are rounded otherwise. Two libraries that compute the same thing train the same model. Where yours is slower, it is for what a library does and a textbook does not: write into arrays that are there, and never compute twice. You may find that it does not matter much.

# %% [markdown] tags=["slide"]
# ## 5. What it knows
#
# Eight things as the unseen artist drew them, and their eight names. Rows are pictures, columns are names; before the training and after it, on one scale of colours.
#
# **Look** for two things: the diagonal, and the *blocks* around it. Nobody has told the model that a tangerine is like a lemon, or a cat like a tiger.

# %% alt="Two square matrices of cosines between eight pictures and eight names. Before training there is no pattern but stripes. After training there are two bright blocks along the diagonal, one of fruits and one of animals and faces." tags=["slide", "output"]
eight = ["red apple", "tangerine", "lemon", "cat face", "dog face"]
eight += ["tiger face", "grinning face", "crying face"]
rows = [exam.names.index(name) for name in eight]
shown = [np.flatnonzero(exam.answer == row)[0] for row in rows]
cosines = [
    pictures[shown] @ names[rows].T for pictures, names in (seen[0], seen[STEPS])
]
plots.similarity_matrices(*cosines, eight, exam.pictures[shown])

# %% tags=["numbers"]
itself = np.eye(8, dtype=bool)
kinds = np.array([0, 0, 0, 1, 1, 1, 2, 2])
block = (kinds[:, None] == kinds) & ~itself
for cosine, least in zip(cosines, (-0.2, 0.1)):
    assert cosine[itself].mean() - cosine[~itself].mean() > least
assert cosines[1][block].mean() > cosines[1][~block & ~itself].mean() + 0.02
assert abs(cosines[0][itself].mean() - cosines[0][~itself].mean()) < 0.1

# %% [markdown]
# It has that partly from the pictures and partly from the words: five of the names share *face*. Not every picture need be brightest at its own name.
#
# And here are nine pictures drawn by lot (the seed is fixed, nothing was picked), each with the three names that it finds likeliest of all 1,586. Green is right.

# %% alt="Nine pictures in three columns. Beside each are the three likeliest names with bars for their probabilities. The right name is green where it is among the three, and stands below the picture where it is not." tags=["slide", "output"]
pictures, names = seen[STEPS]
probabilities = softmax(np.exp(clip.params["logit_scale"]) * pictures @ names.T)[0]
lot = np.random.default_rng(7).choice(len(exam), 9, replace=False)
plots.prediction_grid(
    exam.pictures[lot], exam.names, probabilities[lot], exam.answer[lot]
)

# %% [markdown]
# Now the nine answers of which it is *surest*. **Predict** how many of them are right.

# %% alt="Nine pictures with the three likeliest names for each. The first name has by far the longest bar, and is green where it is right." tags=["more", "output"]
sure, guess = probabilities.max(1), probabilities.argmax(1)
surest = np.argsort(-sure)[:9]
plots.prediction_grid(
    exam.pictures[surest], exam.names, probabilities[surest], exam.answer[surest]
)

# %% [markdown]
# And the eight errors of which it is surest. On the left the picture, on the right what it was taken for, as the same artist has drawn that.

# %% alt="Eight pairs of pictures with an arrow between them: on the left a picture with its right name, on the right a picture of the thing it was taken for. In many pairs the two look alike in colour or outline." tags=["more", "output"]
of_name = np.argsort(exam.answer)  # the one picture of each name
errors = np.flatnonzero(guess != exam.answer)
errors = errors[np.argsort(-sure[errors])][:8]
figure = plots.mistakes_grid(
    exam.pictures[errors],
    [exam.names[n] for n in exam.answer[errors]],
    [exam.names[n] for n in guess[errors]],
    exam.pictures[of_name[guess[errors]]],
)
figure.set_dpi(80)
figure

# %%
hundred = np.argsort(-sure)[:100]
is_right = guess == exam.answer
group = {entry["name"]: entry["group"] for entry in emoji_names()}
groups = np.array([group[name] for name in exam.names])
missed = np.flatnonzero(~is_right)
kind = (groups[guess[missed]] == groups[exam.answer[missed]]).mean()
share = Counter(groups)
luck = np.mean([share[groups[n]] / len(groups) for n in exam.answer[missed]])
print(f"right: {is_right.mean():.1%} of all answers, and", end=" ")
print(f"{is_right[hundred].mean():.0%} of the hundred of which it is surest")
print(f"it gives these hundred a probability of {sure[hundred].mean():.0%} on average")
print(f"of the wrong answers, {kind:.0%} are of the right group;", end=" ")
print(f"by luck it would be {luck:.0%}")

# %% tags=["numbers"]
assert is_right[hundred].mean() > 2 * is_right.mean()
assert kind > 1.5 * luck

# %% [markdown] tags=["answer"]
# Count them above. Of the hundred surest far more are right than of all: it knows something about what it knows. How well its probabilities fit is a question of its own, for notebook 11. Its errors are not blind either. They fall into the right group (animals, food, symbols) far more often than luck would have it. What lies near the right answer on the sphere is mostly of its kind.

# %% [markdown]
# ## What you know now
#
# **Explain**, in a sentence or two each:
#
# 1. Somebody's `attend` forgets the division by $\sqrt d$, in the forward pass and in the backward pass alike. What does the slope of the whole model in section 1 say? What would the training do?
# 2. A friend trains with ten different rates, takes the exam with each, and reports the best accuracy. What is wrong with it?
# 3. A run is to be stopped and go on with the same bits. Why is it not enough that its generator of random numbers has a seed?

# %% [markdown] tags=["answer"]
# 1. Nothing: the two numbers agree, for the backward pass is right for *that* forward pass. It is another model, and it would train, perhaps a little worse. A check of gradients cannot tell whether the function is the one you wanted; the grader compares the forward pass as well.
# 2. The exam took part in the choice. Of ten runs one is ahead by luck, and what is reported includes the luck. Choose with another artist, and look at this one once.
# 3. After 150 steps the generator stands somewhere else than at its seed. Its position would have to be in the state too. If each batch is drawn with a generator of its own, made of the seed and $k$, there is nothing to keep.

# %% [markdown]
# ## Going on
#
# - **Longer.** `python -m miniclip train` takes 600 steps, with Muon (notebook 9) beside AdamW, and reaches more than twice as much; the checkpoint that ships with `miniclip` was trained for longer still. In this notebook, set `STEPS` to 800, and see what your layers can do.
# - **A fixed temperature.** Write a zero over the gradient of `logit_scale` in `slope_of_pairs`, and start it at $\ln 1$, then at $\ln 100$. Train 100 steps of each. What becomes of the loss, and why?
# - **Another exam.** `emoji_data(hold_out_style="twemoji")` holds out another artist. Is the exam easier? Which other sets of drawings are left out with it, and why must they be?
