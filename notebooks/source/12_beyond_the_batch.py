# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown] tags=["slide"]
# # 12 · Beyond the batch, and a bug hunt
#
# *Goal:* you can compute CLIP's loss where its table does not fit into memory, you know a loss that needs no such table, and you can find three bugs in a library that somebody else has written.
# *Needs:* notebooks 1, 2 and 8. *Time:* about 120 minutes.
# *Mirrors:* [tiled_loss.py](../miniclip/training/tiled_loss.py), [loss.py](../miniclip/loss.py), [gradcheck](../miniclip/gradcheck).
#
# A table with a thousand million entries, and a library with forty backward passes of which some are wrong: neither can be looked at as a whole. Both can be looked at in parts. What one has to find out is **what the other parts need to know of a part, once it is gone**. For a tile of the table it is two numbers for each row and each column. For a function of the library it is whether it is right.

# %%
# %matplotlib inline
import json
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from miniclip import plots
from miniclip.course import exercise, grade
from miniclip.gradcheck import CASES
from miniclip.layers import l2_normalize
from miniclip.loss import contrastive_loss

rng = np.random.default_rng(0)

# %% [markdown] tags=["slide"]
# ## 1. How large is the table?
#
# The loss of notebook 8 looks at $S$, the similarity of each picture with each text, and turns it into $P$, $Q$ and $G$. More pairs in a batch mean more strangers to be told apart from, and OpenAI trained CLIP with 32,768 of them.
#
# **Predict.** In float32, how much memory does $S$ take for that batch? And how much take the embeddings that it is made of, 512 numbers for each picture and each text?

# %%
N, E = 32_768, 512
table, embeddings = 4 * N * N, 4 * 2 * N * E
print(f"S            {table / 1e9:5.1f} GB, and P, Q and G as much again, each")
print(f"embeddings   {embeddings / 1e9:5.1f} GB")

# %% tags=["numbers"]
assert 4.2 < table / 1e9 < 4.4 and table == 32 * embeddings

# %% [markdown] tags=["answer"]
# More than four gigabytes for $S$ alone, and about a thirtieth of that for all embeddings. The table is made of the embeddings, so it holds nothing that they do not hold. One can make a part of it whenever that part is needed, and throw it away.

# %% [markdown]
# (The encoders have the same trouble. What their layers remember for the way back does not fit for 32,768 pictures either. There the cure is known as *GradCache* (Gao et al. 2021). Embed the batch in small parts, and keep nothing but the embeddings. Compute the loss of all of them, and its gradient with respect to each embedding. Then take each part once more, forward and at once backward, beginning with its rows of that gradient. The price is a second forward pass. It is exact, since a part needs to know nothing of the others but these rows. In this library it is the `recompute` of [train_step.py](../miniclip/train_step.py).)
#
# ## 2. A sum that grows
#
# Cut $S$ into *tiles*, some rows at a time. Within a tile all scores of these pictures are there, so their softmax $P$ is no problem. But of a column, which belongs to one text, each tile has only a piece. What must be known of a column is $\sum_i e^{S_{ij}}$ over *all* tiles, and it has to be summed up while they come and go.
#
# You know from notebook 8 that the largest score has to be taken away first, $\sum_i e^{S_{ij} - m_j}$, or the exponential may be infinite.
#
# **Predict.** The largest score of a column may stand in the last tile. So does one have to go through all tiles twice, first for $m_j$ and then for the sum?

# %% [markdown] tags=["answer"]
# Once is enough. If $m$ is the largest so far and a larger $m'$ comes, all that was summed up is wrong by the same factor:
#
# $$\sum_i e^{S_{ij} - m'} = e^{m - m'} \sum_i e^{S_{ij} - m}$$
#
# The factor is at most 1, so nothing can become infinite. One multiplication makes the old sum good (Milakov & Gimelshein 2018). The attention of large language models is computed in this way, too (FlashAttention: Dao et al. 2022).

# %% [markdown]
# **Write** it. Before the first tile nothing has been seen: `largest` is $-\infty$, and `total` is 0. Your function has to begin there. (As before, take `scores.real.max`, so that complex scores can pass.)


# %% tags=["exercise"]
@exercise("running_sum")
def running_sum(largest, total, scores):
    """What is known of K columns, after R more rows of their scores.

    largest (K,): the largest score so far; total (K,): Σ exp(score − largest) so far;
    scores (R, K) -> largest (K,), total (K,), both with the new rows
    """
    ### BEGIN SOLUTION
    now = np.maximum(largest, scores.real.max(0))
    total = total * np.exp(largest - now) + np.exp(scores - now).sum(0)
    return now, total
    ### END SOLUTION


grade(running_sum)

# %% [markdown]
# **Look.** A thousand scores of one column, five at a time. Whenever a larger one comes, the sum drops to a smaller unit; what it means does not change.

# %% alt="Two curves against the number of scores seen. The first, the sum in units of its largest term, rises and falls abruptly whenever a larger score comes. The second, the logarithm of the whole sum, rises steadily." tags=["slide", "output"]
column = 3 * rng.standard_normal((1000, 1)) + np.linspace(0, 6, 1000)[:, None]
largest, total = np.full(1, -np.inf), np.zeros(1)
seen = []
for start in range(0, 1000, 5):
    largest, total = running_sum(largest, total, column[start : start + 5])
    seen.append((start + 5, total[0], largest[0] + np.log(total[0])))
seen = np.array(seen)

figure = Figure(figsize=(9, 3.2), layout="constrained")
left, right = figure.subplots(1, 2)
left.plot(seen[:, 0], seen[:, 1], color=plots.ORANGE)
left.set(xlabel="scores seen", title="total, in units of exp(largest)", ylim=(0, None))
right.plot(seen[:, 0], seen[:, 2], color=plots.BLUE)
right.set(xlabel="scores seen", title="largest + ln total")
for ax in (left, right):
    ax.spines[["top", "right"]].set_visible(False)
figure

# %% tags=["numbers"]
assert abs(seen[-1, 2] - np.log(np.exp(column).sum())) < 1e-9
assert (np.diff(seen[:, 2]) > 0).all() and np.diff(seen[:, 1]).min() < -1

# %% [markdown] tags=["slide"]
# ## 3. The loss, in tiles
#
# Forward. With $R_i$ and $r_i$ the sum and the largest of row $i$, and $C_j$ and $c_j$ those of column $j$, the loss of notebook 8 is
#
# $$L = \frac{1}{2N} \sum_i \big( r_i + \ln R_i + c_i + \ln C_i - 2 S_{ii} \big)$$
#
# so what has to be kept are $4N$ numbers, and the $N$ true scores. Each tile gives its own $r$ and $R$ at once, and passes its piece of the columns to your `running_sum`.
#
# Backward. With these numbers each tile can be made again, and then all that is needed for its rows of $G$ is known:
#
# $$P_{ij} = \frac{e^{S_{ij} - r_i}}{R_i} \qquad Q_{ij} = \frac{e^{S_{ij} - c_j}}{C_j} \qquad G = \frac{P + Q - 2I}{2N}$$
#
# A tile's rows of $G$ give these rows of $dZ_I = s\,G Z_T$ in full. To $dZ_T = s\,G^\top Z_I$ they give one part of the sum. Mind where $I$ stands: row $i$ of the tile that begins at `start` is picture `start + i`, and so is its text.
#
# **Predict.** The gradient of the temperature is $\sum_{ij} G_{ij} S_{ij}$. Can it be had from $dZ_I$ alone, when all tiles are gone?

# %% [markdown] tags=["answer"]
# It can. $S_{ij} = s\, z_i \cdot z_j$, so $\sum_j G_{ij} S_{ij} = z_i \cdot \big( s \sum_j G_{ij} z_j \big) = z_i \cdot (dZ_I)_i$, and altogether $\sum_{ij} G_{ij} S_{ij} = \sum Z_I \circ dZ_I$. The scale $s$ multiplies all of $Z_I$. If $Z_I$ is made longer by a factor, it is as if $s$ had been.

# %% [markdown]
# **Write** it. `tile` is the number of rows at a time; where it is None, take all. The last tile may be smaller than the others. Keep the type of number that comes in: `np.empty(n, S.dtype)`.


# %% tags=["exercise"]
@exercise("tiled_contrastive_loss")
def tiled_contrastive_loss(z_image, z_text, logit_scale, tile=None):
    """CLIP's loss of unit embeddings (N, E), with no array of N × N numbers.

    -> loss, backward; backward() -> d_image (N, E), d_text (N, E), d_logit_scale ()
    """
    ### BEGIN SOLUTION
    n, scale = len(z_image), np.exp(logit_scale)
    starts = range(0, n, tile or n)
    true = scale * (z_image * z_text).sum(1)

    def rows_of(start):
        rows = slice(start, min(start + (tile or n), n))
        return rows, scale * z_image[rows] @ z_text.T

    row_max, row_sum = np.empty_like(true.real), np.empty_like(true)
    column_max, column_sum = np.full_like(true.real, -np.inf), np.zeros_like(true)
    for start in starts:
        rows, S = rows_of(start)
        row_max[rows] = S.real.max(1)
        row_sum[rows] = np.exp(S - row_max[rows, None]).sum(1)
        column_max, column_sum = running_sum(column_max, column_sum, S)
    logs = row_max + np.log(row_sum) + column_max + np.log(column_sum)
    loss = (logs - 2 * true).sum() / (2 * n)

    def backward():
        d_image = np.empty_like(true[:, None] * z_image)
        d_text = np.zeros_like(d_image)
        for start in starts:
            rows, S = rows_of(start)
            G = np.exp(S - row_max[rows, None]) / row_sum[rows, None]  # P
            G += np.exp(S - column_max) / column_sum  # and Q
            few = np.arange(len(G))
            G[few, start + few] -= 2
            G *= scale / (2 * n)
            d_image[rows] = G @ z_text
            d_text += G.T @ z_image[rows]
        return d_image, d_text, (z_image * d_image).sum()

    return loss, backward
    ### END SOLUTION


grade(tiled_contrastive_loss)

# %% [markdown]
# The grader sees what comes out, and cannot see what you kept. That you have to look at yourself: `tracemalloc` counts what Python's arrays take, at the worst moment.
#
# **Predict.** With tiles of 64 rows, and twice as many pairs, how much more memory does the loss in tiles take? And the one of notebook 8? Which of the two will be faster?


# %%
def peak_and_seconds(loss, n, **options):
    """Bytes at the worst moment of forward and backward, and how long they took."""
    z = l2_normalize(rng.standard_normal((2, n, 32)).astype(np.float32))[0]
    tracemalloc.start()
    begun = time.perf_counter()
    loss(z[0], z[1], np.float32(3), **options)[1]()
    seconds, peak = time.perf_counter() - begun, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak, seconds


sizes = [128, 256, 512, 1024, 2048, 4096]
measured = {
    "the whole table": [peak_and_seconds(contrastive_loss, n) for n in sizes],
    "tiles of 64 rows": [
        peak_and_seconds(tiled_contrastive_loss, n, tile=64) for n in sizes
    ],
}
print(f"{'':18}" + "".join(f"{n:10,}" for n in sizes) + "   pairs")
for name, rows in measured.items():
    print(f"{name:18}" + "".join(f"{peak / 1e6:10.2f}" for peak, _ in rows) + "   MB")
    print(f"{'':18}" + "".join(f"{1000 * s:10.0f}" for _, s in rows) + "   ms")

# %% alt="Peak memory against the number of pairs, on two logarithmic axes, with a dashed line for one table. The whole table's curve is a steep line above the dashed one. That of the tiles is flatter and far below it for large batches." tags=["slide", "output"]
figure = Figure(figsize=(6.4, 4), layout="constrained")
ax = figure.subplots()
for (name, rows), colour in zip(measured.items(), (plots.ORANGE, plots.BLUE)):
    ax.loglog(
        sizes, [peak / 1e6 for peak, _ in rows], "o-", color=colour, label=name, base=2
    )
one = [4 * n * n / 1e6 for n in sizes]
ax.loglog(sizes, one, ls="--", color=plots.GREY, label="S alone, in float32", base=2)
ax.set_yscale("log", base=10)
ax.set_xticks(sizes, sizes)
ax.set(xlabel="pairs in the batch", ylabel="memory at the worst moment (MB)")
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False)
figure

# %% tags=["numbers"]
dense, tiled = (np.array([peak for peak, _ in rows]) for rows in measured.values())
assert 3.3 < dense[-1] / dense[-2] < 4.7 and 1.5 < tiled[-1] / tiled[-2] < 2.7
assert dense[-1] > 10 * tiled[-1] and dense[-1] > 2 * 4 * sizes[-1] ** 2

# %% [markdown] tags=["answer"]
# In tiles, twice as many pairs take twice the memory, and the table takes four times as much. (If your curve runs along the steep one, something of the size of the table is kept; look for an array that is made before the first tile.) The tiles compute $S$ a second time, and are not slower for it by much, or not at all: a tile of 64 rows stays near the processor, while the table has to be fetched from memory again and again, for each of the steps. What is read and written costs more here than what is computed.

# %% [markdown] tags=["slide"]
# ## 4. A loss without a table
#
# The tiles have to know of each other because a softmax shares out *one* whole: it asks which of $N$ texts belongs to a picture. *SigLIP* (Zhai et al. 2023) asks each pair for itself, whether the two belong together. The answer is yes or no, $y_{ij} = +1$ on the diagonal and $-1$ elsewhere, and the loss is the surprise at it:
#
# $$L = \frac1N \sum_{ij} \ln \big( 1 + e^{-m_{ij}} \big) \qquad m_{ij} = y_{ij} \,( s\, z_i \cdot z_j + b )$$
#
# A pair whose *margin* $m$ is large is well. Nothing in it depends on any other pair, so a tile needs no numbers of the others at all.
#
# There is one parameter more, the bias $b$. **Predict.** At the beginning all cosines are about 0, and $N - 1$ of the $N$ texts do not belong to a picture. If $b = 0$, what is the loss? Which $b$ makes it smallest?

# %% alt="The loss of a model that knows nothing against the bias, for batches of 8, 64 and 1,024 pairs. Each curve has its minimum at a bias that is more negative the larger the batch, and rises steeply to the right of it." tags=["slide", "output"]
biases = np.linspace(-14, 2, 161)
at_start, best = {}, {}
figure = Figure(figsize=(6.4, 3.8), layout="constrained")
ax = figure.subplots()
for n, colour in zip((8, 64, 1024), (plots.GREEN, plots.BLUE, plots.ORANGE)):
    loss = np.logaddexp(0, -biases) + (n - 1) * np.logaddexp(0, biases)
    at_start[n] = np.interp(0, biases, loss)
    best[n] = biases[loss.argmin()], loss.min()
    ax.semilogy(biases, loss, color=colour, label=f"{n:,} pairs")
    ax.plot(*best[n], "o", color=colour)
ax.set(xlabel="bias b", ylabel="loss of a model that knows nothing")
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False)
for n in best:
    print(f"{n:5,} pairs: {at_start[n]:6.1f} at b = 0, which is N ln 2;", end=" ")
    print(f"least {best[n][1]:4.2f} at b = {best[n][0]:5.1f};  ln N is {np.log(n):.2f}")
figure

# %% tags=["numbers"]
for n, (bias, least) in best.items():
    assert abs(at_start[n] - n * np.log(2)) < 0.01 * at_start[n]
    assert abs(bias + np.log(n - 1)) < 0.06 and 0.9 < least - np.log(n) < 1.1

# %% [markdown] tags=["answer"]
# At $b = 0$ each of the $N$ pairs of a picture surprises by $\ln 2$, which is 710 for a batch of 1,024, and nearly all of the first gradient would be about saying *no* less timidly. The best bias says what is known before one has looked: one pair in $N$ is true. That is $\sigma(b) = 1/N$, so $b = -\ln(N-1)$, and the loss there is $\ln N + 1$, nearly that of the softmax. (SigLIP begins with $b = -10$, for batches of 32,768: $\ln 32{,}767$ is 10.4.)

# %% [markdown]
# Now the gradient. The slope of $\ln(1 + e^{-m})$ is $-\sigma(-m)$, with $\sigma(x) = 1 / (1 + e^{-x})$: it is how much the pair is *wrong*. So
#
# $$G_{ij} = \frac{\partial L}{\partial S_{ij}} = -\frac{y_{ij}\, \sigma(-m_{ij})}{N}$$
#
# with $S = s\,Z_I Z_T^\top$, and from there on all is as in notebook 8. The bias is added to every score, so $db = \sum G$.
#
# One thing more. $e^{-m}$ is infinite for a pair that is very wrong. For such an $m$ take $\ln(1 + e^{-m}) = -m + \ln(1 + e^{m})$, which is the same.
#
# **Write** it, for features of any length. `l2_normalize` gives the embedding and its backward; `m.real < 0` says which pairs are wrong.


# %% tags=["exercise"]
@exercise("siglip_loss")
def siglip_loss(image_features, text_features, logit_scale, logit_bias):
    """SigLIP's loss of features (N, E) of any length; logit_scale () = ln s, bias ().

    -> loss, backward; backward() -> d_image, d_text, d_logit_scale, d_logit_bias
    """
    ### BEGIN SOLUTION
    z_image, image_backward = l2_normalize(image_features)
    z_text, text_backward = l2_normalize(text_features)
    n, scale = len(z_image), np.exp(logit_scale)
    y = 2 * np.eye(n, dtype=z_image.real.dtype) - 1
    S = scale * (z_image @ z_text.T)
    m = y * (S + logit_bias)
    is_wrong = m.real < 0
    e = np.exp(np.where(is_wrong, m, -m))  # at most 1
    loss = (np.where(is_wrong, -m, 0) + np.log1p(e)).sum() / n

    def backward():
        G = -y * np.where(is_wrong, 1, e) / (1 + e) / n
        d_image, d_text = scale * (G @ z_text), scale * (G.T @ z_image)
        return image_backward(d_image), text_backward(d_text), (G * S).sum(), G.sum()

    return loss, backward
    ### END SOLUTION


grade(siglip_loss)

# %% [markdown] tags=["slide"]
# ## 5. Four checkers
#
# You have now written a good part of a library of backward passes, and each of them was looked at by a checker. How good is a checker? One finds out as one does with students: give it an exam. Here are 59 wrong backward passes, as people write them, and 24 right ones. Four checkers are examined: the one of this library, and those of three well-known courses, which were written again from what these courses publish ([checkers.py](../benchmarks/checkers.py)).
#
# - *minitorch* takes the sum of the output, and looks at one entry of each array, drawn at random; 1 % off is right.
# - *dlsys* takes the sum as well, and looks at all entries; the differences may add up to $10^{-6}$.
# - *CS231n* takes a random cotangent, and prints the largest relative error. Its reader judges; its notes call $10^{-7}$ good, and $10^{-4}$ where there is a kink.
# - *miniclip* is what notebook 1 ends with.
#
# **Predict.** How many of the 59 does each find? And which of them accuse a layer that is right?


# %%
def find_upwards(name):
    """A file of the repository, from wherever in it this notebook runs; or None."""
    folders = [Path.cwd(), *Path.cwd().parents]
    return next((folder / name for folder in folders if (folder / name).exists()), None)


names = ["minitorch", "dlsys", "CS231n", "miniclip"]
results = find_upwards("benchmarks/results/checkers.json")
if results is None:
    print(
        "The results lie in the repository, benchmarks/results/checkers.json: clone it."
    )
else:
    exam = json.loads(results.read_text("utf-8"))
    found = np.array(
        [[np.mean(one["found"][name]) for one in exam["faults"]] for name in names]
    )
    accused = np.array(
        [[np.mean(one["accused"][name]) for one in exam["layers"]] for name in names]
    )
    print(f"{'':12}found, of {found.shape[1]}    right ones accused, of", end=" ")
    print(f"{accused.shape[1]}    (the median of {exam['seeds']} draws)")
    for name in names:
        row = exam["table"]["checkers"][name]
        print(f"{name:12}{row['found'][0]:8.0f}{row['false alarms'][0]:21.0f}")
    print(f"miniclip also names what is wrong, rightly, in {exam['table']['named']}.")

# %% alt="Four rows of 59 squares, one for each fault. The first row, minitorch, has many pale squares. The second and third have a few white ones. The last is full. Beside them four rows of squares for the right layers: those of CS231n are partly red, the others white." tags=["slide", "output"]
figure = Figure(figsize=(9.6, 2.9), layout="constrained")
if results is not None:
    left, right = figure.subplots(1, 2, width_ratios=(59, 24))
    style = {"aspect": "auto", "vmin": 0, "vmax": 1}
    left.imshow(found, cmap="Blues", **style)
    right.imshow(accused, cmap="Reds", **style)
    left.set_yticks(range(4), names)
    right.set_yticks([])
    left.set_title("wrong ones: blue is found, pale in some draws", fontsize=10)
    right.set_title("right ones: red is accused", fontsize=10)
    layers = [one["fault"].partition(":")[0] for one in exam["faults"]]
    firsts = [k for k, layer in enumerate(layers) if layer not in layers[:k]]
    left.set_xticks(firsts, [layers[k] for k in firsts], rotation=90, fontsize=7)
    every = [one["layer"] for one in exam["layers"]]
    right.set_xticks(range(len(every)), every, rotation=90, fontsize=7)
    for ax, columns in ((left, found.shape[1]), (right, accused.shape[1])):
        ax.set_xticks(np.arange(columns + 1) - 0.5, minor=True)
        ax.set_yticks(np.arange(5) - 0.5, minor=True)
        ax.grid(which="minor", color="white", lw=1)
        ax.tick_params(which="both", length=0)
figure

# %% tags=["numbers"]
table = {name: row for name, row in exam["table"]["checkers"].items()}
share = {name: table[name]["found"][0] / exam["table"]["faults"] for name in names}
alarms = {name: table[name]["false alarms"][0] for name in names}
assert share["minitorch"] < 0.85 < share["dlsys"] < 1 == share["miniclip"]
assert share["dlsys"] <= share["CS231n"] < 1
assert alarms["miniclip"] == 0 and alarms["CS231n"] > 2
assert exam["table"]["named"] >= 50
written = [k for k, one in enumerate(exam["faults"]) if "dy was" in one["called"]]
assert len(written) == 2 and not found[:3, written].any() and found[3].all()

# %% [markdown] tags=["answer"]
# One entry is a lottery ticket. What is wrong in a quarter of the entries, as a forgotten mask, is missed in three draws of four, and an error that is small at this entry passes with 1 %. A cotangent of ones misses what ones make zero: in a batch norm $\hat x$ sums to 0 over the batch, so the gradient of the weight is zero, and a wrong factor on zero is zero. And a backward pass that reads ones from its `dy` where it should read `dy` is right for ones. A strict bound on a relative error, entry by entry, finds nearly all, and accuses the innocent as well. Where a gradient is zero or very small, rounding is all there is to compare, and the reader has to know that. What none of the three sees is a backward pass that gives the right answer and *writes into* the array it was given: one has to look at that array afterwards.

# %% [markdown] tags=["slide"]
# ## 6. A bug hunt
#
# Now the other way round: you have a good checker, and somebody else's library. Three of its backward passes are wrong. The command copies the library into a folder, spoils it there, and seals the answers.

# %%
folder = Path(tempfile.mkdtemp()) / "bug-hunt"


def run(*words, where=folder.parent):
    """`python -m miniclip …`, in the folder where -> what it prints."""
    command = [sys.executable, "-m", "miniclip", *map(str, words)]
    return subprocess.run(command, cwd=where, capture_output=True, text=True).stdout


print(run("bug", "--seed", 7, "--count", 3, "--out", folder.name))

# %% tags=["student"]
print("The copy that you mend lies in", folder)

# %% [markdown]
# In that folder, the checker checks the copy. Here are its verdicts on some twenty functions, small and large, and what each of them uses on its way back.

# %%
uses = {
    "attention_weights": ["softmax"],
    "attend": ["softmax"],
    "self_attention": ["linear", "attend"],
    "attention_pool": ["linear", "attend"],
    "mlp (quick_gelu)": ["linear", "quick_gelu"],
    "mlp (gelu)": ["linear", "gelu"],
    "residual_block": ["layer_norm", "self_attention", "mlp (quick_gelu)"],
    "conv_norm": ["conv2d", "batch_norm (training)", "relu"],
    "contrastive_loss": ["symmetric_cross_entropy"],
    "clip_loss": ["contrastive_loss", "l2_normalize"],
    "siglip_loss": ["l2_normalize"],
}
suspects = ["linear", "embedding", "layer_norm", "relu", "quick_gelu", "gelu"]
suspects += ["softmax", "l2_normalize", "conv2d", "batch_norm (training)"]
suspects += ["average_pool", "symmetric_cross_entropy", *uses]
suspects = [name for name in CASES if name in suspects]  # as the checker goes


def failing():
    """The functions of the copy whose gradients are wrong."""
    chosen = [word for name in suspects for word in ("--layer", name)]
    text = run("gradcheck", *chosen, "--method", "adjoint", "--json", where=folder)
    reports = json.loads(text)["reports"]
    return [name for name, one in zip(suspects, reports) if not one["ok"]]


wrong = failing()
print(f"{len(wrong)} of {len(suspects)} are wrong: {', '.join(wrong)}")

# %% tags=["numbers"]
assert 5 <= len(wrong) < len(suspects) / 2

# %% [markdown]
# More than three are wrong, and you know the reason: a bug in a small function spoils each large one in which it stands.
#
# **Predict.** If a function is wrong, and another one that it uses is wrong as well, what do you know about its own code?

# %% [markdown] tags=["answer"]
# Nothing. It may be right, and only be given wrong numbers; and it may have a bug of its own, too, which nobody can see at this moment. The one that uses nothing wrong and is wrong all the same: that one is guilty.

# %% [markdown]
# **Write** who is guilty for certain.


# %% tags=["exercise"]
@exercise("culprits")
def culprits(wrong, uses):
    """Of the names in `wrong`, those that use no other wrong one, sorted.

    wrong: list of names; uses {name: list of the names it uses}, where a name that uses
    nothing may be missing
    """
    ### BEGIN SOLUTION
    return sorted(
        name for name in wrong if not any(used in wrong for used in uses.get(name, ()))
    )
    ### END SOLUTION


grade(culprits)

# %%
guilty = culprits(wrong, uses)
for name in guilty:
    report = run("gradcheck", "--layer", name, "--method", "adjoint", where=folder)
    print(
        report[report.index(f"{name.partition(' ')[0]}: ") :].rpartition("\nworst")[0]
    )

# %% [markdown]
# The checker says which array, and what its gradient looks like. The rest is reading: open the file, look for the function, and compare its backward pass with the forward pass above it. **Mend it in the copy**, and let the checker run again.

# %% tags=["reading"]
import miniclip

right = Path(miniclip.__file__).parent / "layers.py"  # you mend the lines yourself
mended = (folder / "miniclip" / "layers.py").write_bytes(right.read_bytes())

# %%
print("now wrong:", ", ".join(still := failing()) or "nothing")
print("guilty for certain:", ", ".join(culprits(still, uses)) or "nobody")

# %% tags=["numbers"]
answers = [
    line for line in run("bug", "--open", folder.name).splitlines() if ".py, " in line
]
spoiled = {line.partition(".py, ")[2].partition(":")[0] for line in answers}
assert len(spoiled) == 3 and {*guilty, *culprits(still, uses)} == spoiled
assert len(guilty) == 2 and len(still) == 1 and still[0] in wrong

# %% [markdown]
# Go on until nothing is wrong. The functions that you found first may have hidden another one: if it uses one of them, it was wrong anyway, and its own bug comes to light only when they are mended. **That is why one begins with the small ones, and checks again after each repair.**

# %% tags=["reading"]
for name in culprits(still, uses):
    report = run("gradcheck", "--layer", name, "--method", "adjoint", where=folder)
    print(report[report.index(f"{name}: ") :].rpartition("\nworst")[0])

# %% [markdown]
# When you are done, `python -m miniclip bug --open` and the folder open the sealed answers.

# %% tags=["reading"]
print(run("bug", "--open", folder.name))

# %% [markdown]
# ## What you know now
#
# **Explain**, in a sentence or two each:
#
# 1. Somebody computes the loss in tiles, and takes the softmax of the columns within each tile. What has become of the exam for the texts?
# 2. Why does SigLIP need a bias, and CLIP none?
# 3. A check with the sum of the output says that a batch norm is right. Which of its gradients has it not looked at?

# %% [markdown] tags=["answer"]
# 1. Each text has to find its picture among the pictures of one tile only. That is an easier exam, with as many candidates as a tile has rows, and most texts have no right answer in most tiles.
# 2. A softmax ignores a constant that is added to all scores, so a bias would have no gradient. Single pairs do not, and it is needed to say that a pair taken at random does not belong together.
# 3. That of the weight. For a cotangent of ones it is the sum of $\hat x$ over the batch, which is 0 whatever comes in, so any factor on it is right. (That of the input is 0 as well, if it is right; there a mistake may show.)

# %% [markdown]
# ## Going on
#
# - **Columns in tiles as well.** Cut $Z_T$ too, so that a tile is square. Which sums have to run now? What is gained if one picture's row alone, $N$ numbers, is too long?
# - **One exponential.** Rows and columns take one each. With a common $m$, the largest of all scores, one would do for both. For which scores does that go wrong?
# - **The library's.** Read [tiled_loss.py](../miniclip/training/tiled_loss.py): it works in strips that stay in the processor's cache, and begins the way back with the tile it has just left. Measure it beside yours.
# - **Another hunt.** `--seed 8 --count 5`. Or spoil the library yourself, by a line of which you believe that nobody will find it, and let a neighbour search.
