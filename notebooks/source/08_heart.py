# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown] tags=["slide"]
# # 8 · The heart
#
# *Goal:* you can derive CLIP's loss and its gradient, write both so that no temperature breaks them, and read the gradient as forces.
# *Needs:* notebooks 1 and 3. *Time:* about 90 minutes. *Mirrors:* [loss.py](../miniclip/loss.py).
#
# Two encoders turn pictures and texts into points on one sphere. Everything that they ever learn, they learn from one number: the loss. It looks at nothing but a table, who is how similar to whom. The gradient of that table is one line long, and it is the sentence that holds this notebook together: **what the model believes, less what is true.**

# %%
# %matplotlib inline
import numpy as np
from matplotlib.figure import Figure

import miniclip
from miniclip import encode_image, encode_text, plots
from miniclip.course import exercise, grade, put_in, take_out
from miniclip.data import emoji_names, emoji_pictures, plain
from miniclip.gradcheck import check, check_layer
from miniclip.init import initialize, model_config
from miniclip.layers import l2_normalize, softmax
from miniclip.preprocess import normalize

rng = np.random.default_rng(0)

# %% [markdown] tags=["slide"]
# ## 1. An exam with two sides
#
# A batch holds $N$ pictures and $N$ texts, and row $i$ of one belongs to row $i$ of the other. After the encoders, and after the step onto the unit sphere, they are $Z_I$ and $Z_T$, of shape $(N, E)$. All $N \times N$ likenesses are one product:
#
# $$S = s\, Z_I Z_T^\top \qquad s = e^{\texttt{logit\_scale}} = \frac{1}{\tau}$$
#
# An entry is the cosine of an angle, times $s$. What $s$ is for comes in section 4; until then it is a number.
#
# Read row $i$ of $S$ as a question: *here is picture $i$, which of the $N$ texts is its own?* A softmax of the row makes the scores into probabilities. Read column $j$ as the question turned round: *which of the $N$ pictures does text $j$ belong to?*
#
# $$P_{ij} = \frac{e^{S_{ij}}}{\sum_k e^{S_{ik}}} \qquad Q_{ij} = \frac{e^{S_{ij}}}{\sum_k e^{S_{kj}}}$$
#
# The right answers stand on the diagonal. The loss is the mean surprise at them, over both exams (Radford et al. 2021, figure 3):
#
# $$L = -\frac{1}{2N} \sum_i \big( \ln P_{ii} + \ln Q_{ii} \big)$$
#
# **Predict.** What is the loss of a model that has learned nothing, in a batch of 8? And in a batch of 32,768, as OpenAI trained with?

# %% [markdown] tags=["answer"]
# If nothing can be told apart, each of the $N$ answers has the probability $1/N$, and the loss is $\ln N$: about 2.08 for 8, about 10.4 for 32,768. Keep that number in mind. **A loss that stays at $\ln N$ has learned nothing**, and a loss has a meaning only beside its batch size.

# %%
for n in (8, 32_768):
    print(f"ln {n:6,} = {np.log(n):.2f}")

# %% tags=["numbers"]
assert round(np.log(8), 2) == 2.08 and round(np.log(32768), 1) == 10.4

# %% [markdown]
# ## 2. The logarithm of a sum
#
# Before the whole loss, a piece of it. A logarithm of a quotient is a difference, so
#
# $$-\ln P_{ii} = \underbrace{\ln \sum_k e^{S_{ik}}}_{\text{all scores of the row}} -\; S_{ii}$$
#
# The second term is one entry of $S$. The first has a name, *log-sum-exp*, and is a soft maximum: never below the largest number, and never more than $\ln N$ above it.
#
# **Predict.** Written down as it stands, in float32, `np.log(np.exp(S).sum())`: how large may a score be? CLIP's $s$ goes up to 100. Is that safe?

# %% tags=["slide"]
right, wrong = np.eye(4), np.roll(np.eye(4), 1, 0)  # cosines: all right, and all wrong


def as_it_stands(S):
    P = np.exp(S) / np.exp(S).sum(1, keepdims=True)
    return 0 - np.log(np.diag(P)).mean()


print("   s    all right    all wrong")
losses = {}
with np.errstate(all="ignore"):
    for s in np.float32([10, 50, 80, 88, 89, 100]):
        losses[int(s)] = [
            as_it_stands(s * cosines.astype(np.float32)) for cosines in (right, wrong)
        ]
        print(f"{s:4.0f}" + "".join(f"{loss:13.4g}" for loss in losses[int(s)]))

# %% tags=["numbers"]
assert abs(losses[80][1] - 80) < 0.1 and losses[88][0] < 1e-6
assert np.isnan(losses[89][0]) and not np.isfinite(losses[100][1])

# %% [markdown] tags=["answer"]
# Up to 88. $e^{89}$ is more than the largest float32, and infinity over infinity is no number. So it is not safe: a CLIP whose temperature has fallen to its bound, and which is *right*, has scores of 100 on its diagonal.

# %% [markdown]
# The cure is the one you know from the softmax. Take the largest number $m$ of each row away. Only this time the result changes, and by how much is plain:
#
# $$\ln \sum_k e^{x_k} = m + \ln \sum_k e^{x_k - m}$$
#
# Now the largest exponential is $e^0 = 1$. Nothing can become infinite, and the sum is at least 1, so its logarithm cannot become $-\infty$ either.
#
# Its derivative: $\ln u$ has the slope $u'/u$, and of the sum only one term depends on $x_j$:
#
# $$\frac{\partial}{\partial x_j} \ln \sum_k e^{x_k} = \frac{e^{x_j}}{\sum_k e^{x_k}}$$
#
# That is the softmax. **The slope of the logarithm of a sum is the softmax**, and from it comes every probability in the gradient of CLIP. (Does $m$, which depends on $x$ too, not need a derivative of its own? The right side has the same value for *every* $m$, so its slope in $m$ is zero.)
#
# **Write** it, along any `axis`. For the complex step take `x.real.max`: $m$ is only a shift. `np.expand_dims(dy, axis)` gives back the axis that was summed over.


# %% tags=["exercise"]
@exercise("log_sum_exp")
def log_sum_exp(x, axis=-1):
    """y = ln Σ exp(x) along an axis, which y lacks. No score is too large or too small.

    -> y, backward; backward(dy) -> dx
    """
    ### BEGIN SOLUTION
    largest = x.real.max(axis, keepdims=True)
    e = np.exp(x - largest)
    total = e.sum(axis, keepdims=True)
    y = (largest + np.log(total)).squeeze(axis)

    def backward(dy):
        return np.expand_dims(dy, axis) * e / total

    return y, backward
    ### END SOLUTION


grade(log_sum_exp)

# %% [markdown] tags=["slide"]
# ## 3. G: belief less truth
#
# Now the loss is a sum of pieces that you can derive. Over the rows and over the columns,
#
# $$L = \frac{1}{2N} \Big( \sum_i \ln \sum_k e^{S_{ik}} + \sum_j \ln \sum_k e^{S_{kj}} - 2 \sum_i S_{ii} \Big)$$
#
# Each piece gives its part of $G = \partial L / \partial S$. The rows give their softmax, $P$. The columns give theirs, $Q$. The last sum gives 2 on the diagonal, and nothing elsewhere, which is $2I$:
#
# $$G = \frac{\partial L}{\partial S} = \frac{P + Q - 2I}{2N}$$
#
# $P$ and $Q$ are what the model believes, $I$ is what is true. If belief and truth are the same, nothing is left to learn.
#
# **Predict.** Three questions, before you write.
#
# 1. Add 100 to *all* entries of $S$. What happens to $L$, and so what is $\sum G$?
# 2. Add 100 to one *row* of $S$. Does $L$ stay the same?
# 3. So does each row of $G$ sum to 0?

# %% [markdown] tags=["answer"]
# 1. Nothing: both softmaxes ignore a constant. So $\sum G = 0$, always. What the loss gives to some pairs it takes from others.
# 2. It does not. The exam of the row ignores it. But in every *column* one picture is now 100 higher than the others, and each text takes that picture for its own.
# 3. No. $P$ and $I$ sum to 1 in each row, and $Q$ does so in each column only. A row of $G$ sums to $(\sum_j Q_{ij} - 1)/2N$. For a picture that many texts believe to be theirs, it is positive, and descent lowers the scores of that picture as a whole.

# %% [markdown]
# **Write** the loss of a matrix $S$, with your `log_sum_exp`, and its gradient. A loss is the end of the line: its `backward` takes no cotangent, `backward()` gives $G$.
#
# Two things to mind. `np.diagonal(S)` are the true scores. And `np.eye(n)` is float64: in a model of float32 it makes a gradient of float64. (The library's function has one more argument, `positives`: it names the true entries of $S$ where a text is true of several pictures, see *Going on*. Yours may leave it out, for here the diagonal is the truth.)


# %% tags=["exercise"]
@exercise("symmetric_cross_entropy")
def symmetric_cross_entropy(similarity):
    """L of a matrix S (N, N) whose diagonal holds the true pairs.

    -> loss, backward; backward() -> G = ∂L/∂S (N, N)
    """
    ### BEGIN SOLUTION
    n = len(similarity)
    rows, rows_backward = log_sum_exp(similarity, 1)
    columns, columns_backward = log_sum_exp(similarity, 0)
    loss = ((rows + columns) / 2 - np.diagonal(similarity)).mean()

    def backward():
        ones = np.ones(n, similarity.dtype)
        g = rows_backward(ones) + columns_backward(ones)  # P + Q
        g[np.arange(n), np.arange(n)] -= 2
        return g / (2 * n)

    return loss, backward
    ### END SOLUTION


grade(symmetric_cross_entropy)

# %% [markdown]
# **Look.** Eight emoji and their names, through two encoders that nobody has trained. (The ResNet and the Transformer of notebooks 5 and 6, small.)


# %%
eight = ["red apple", "tangerine", "lemon", "cat face"]
eight += ["dog face", "tiger face", "grinning face", "crying face"]
code = {entry["name"]: entry["code"] for entry in emoji_names()}
drawings, codes = emoji_pictures("fluent")
pictures = drawings[[codes.index(code[name]) for name in eight]]

clip = miniclip.load("emoji")  # a trained one, for later; the tokenizer is the same
config = model_config("resnet-tiny", vocab_size=clip.tokenizer.vocab_size)
params = initialize(config, seed=0)
tokens = clip.tokenizer(eight, config["text_cfg"]["context_length"])
images = normalize(plain(pictures, 32), config)
untrained = (
    encode_image(params, images, config, training=True)[0].astype(float),
    encode_text(params, tokens, config)[0].astype(float),
    float(params["logit_scale"]),
)


def matrices(image_features, text_features, logit_scale):
    """S, P, G and the loss."""
    Z_I, Z_T = l2_normalize(image_features)[0], l2_normalize(text_features)[0]
    S = np.exp(logit_scale) * Z_I @ Z_T.T
    loss, backward = symmetric_cross_entropy(S)
    return S, softmax(S, 1)[0], backward(), loss


diagonal = np.eye(8, dtype=bool)
*first, loss_untrained = matrices(*untrained)
print(f"loss {loss_untrained:.2f}, and ln 8 is {np.log(8):.2f}")

# %% tags=["numbers"]
assert 1.5 < loss_untrained < 3.2

# %% [markdown]
# It is near $\ln 8$, and may well lie above it: by chance some pairs look alike, and to be sure of something wrong costs more than to know nothing.
#
# **Predict.** If $P$ and $Q$ were flat, $1/8$ everywhere, how large would the entries of $G$ be, on the diagonal and off it?

# %% [markdown] tags=["answer"]
# Off it $(1/8 + 1/8)/16 = 1/64$, about 0.016, and on it $(1/8 + 1/8 - 2)/16 = -7/64$, about −0.109. Seven small ones against one large: the row sums to zero. It says the only sensible thing to say: raise the diagonal, lower all the rest a little. Below, on the right, it is so on the average.

# %% alt="Three matrices of eight pictures and eight names, from an untrained model. The similarities are a mottled field, the probabilities are spread out, darker in the columns that many pictures take for theirs, and the gradient has a dark blue diagonal on a pale red ground." tags=["slide", "output"]
plots.gradient_matrices(*first, eight, pictures)

# %% tags=["numbers"]
G = first[2]
assert abs(G[diagonal].mean() + 7 / 64) < 0.02
assert abs(G[~diagonal].mean() - 1 / 64) < 3e-3
assert G[diagonal].max() < 0 < G[~diagonal].min() and abs(G.sum()) < 1e-14

# %% [markdown]
# Blue is what a step of descent raises, red what it lowers. Here is the same for the CLIP that ships with the library, on the same eight. It has never seen a drawing by this artist.

# %% alt="The same three matrices from a trained model. The diagonal of the similarities is bright, with blocks for fruit, animals and faces. Most of the probability is on the diagonal. The gradient is white nearly everywhere; only a few entries are coloured." tags=["slide", "output"]
trained = (
    clip.encode_image(pictures).astype(float),
    clip.encode_text(eight).astype(float),
    float(clip.params["logit_scale"]),
)
*second, loss_trained = matrices(*trained)
plots.gradient_matrices(*second, eight, pictures)

# %%
G = second[2]
pushed = np.where(diagonal, 0, G)
i, j = np.unravel_index(pushed.argmax(), G.shape)
largest = np.sort(pushed.ravel())[::-1]
print(f"loss {loss_trained:.2f}   ΣG {G.sum():.0e}")
print(f"what descent lowers most: the picture of a {eight[i]} with the text {eight[j]}")
share = largest[:3].sum() / largest.sum()
print(f"of all that it lowers, {share:.0%} is in three of 56 places")


# %% tags=["numbers"]
assert loss_trained < 0.6 and largest[:3].sum() > 0.6 * largest.sum()
assert abs(G.sum()) < 1e-14

# %% [markdown]
# Nearly all of $G$ is white: what is known teaches nothing any more. The colour is where two things are mixed up. A batch of 8 strangers, once learned, has hardly a gradient, and that is one reason why CLIP wants large batches: among more pairs there are more that are hard to tell apart.

# %% [markdown] tags=["slide"]
# ## 4. The temperature
#
# A cosine lies between −1 and 1. Without a factor, the largest probability that a softmax could reach in a batch of eight is $e / (e + 7 e^{-1})$, about a half, and a model that is right in everything could not say so. So the cosines are multiplied by $s = 1/\tau$. How sharp the model may judge is not for us to say; it is a parameter. And so that $s$ cannot become negative, the parameter is its logarithm, $t = \texttt{logit\_scale}$.
#
# Three arrays make $S = e^t\, Z_I Z_T^\top$. Derive by each, the others held. For $Z_I$, write one entry out:
#
# $$S_{ij} = s \sum_e (Z_I)_{ie} (Z_T)_{je} \quad\Rightarrow\quad (dZ_I)_{ie} = \sum_j G_{ij}\, s\, (Z_T)_{je} \quad\text{that is}\quad dZ_I = s\,G\,Z_T$$
#
# Picture $i$ is pushed away from each text $j$ by as much as it is wrongly believed to belong to it, and pulled to its own. For the texts the sum runs over the other index, so $G$ is turned over: $dZ_T = s\,G^\top Z_I$. And $e^t$ is its own derivative, $\partial S / \partial t = S$:
#
# $$d\,\texttt{logit\_scale} = \sum_{ij} G_{ij} S_{ij}$$
#
# **Write** it, for embeddings that are on the sphere already. Your `symmetric_cross_entropy` does the rest.


# %% tags=["exercise"]
@exercise("contrastive_loss")
def contrastive_loss(z_image, z_text, logit_scale):
    """The loss of embeddings (N, E) on the unit sphere; logit_scale () = ln 1/τ.

    -> loss, backward; backward() -> d_image (N, E), d_text (N, E), d_logit_scale ()
    """
    ### BEGIN SOLUTION
    scale = np.exp(logit_scale)
    similarity = scale * (z_image @ z_text.T)
    loss, cross_entropy = symmetric_cross_entropy(similarity)

    def backward():
        g = cross_entropy()
        d_image, d_text = scale * (g @ z_text), scale * (g.T @ z_image)
        return d_image, d_text, (g * similarity).sum()

    return loss, backward
    ### END SOLUTION


grade(contrastive_loss)

# %% [markdown]
# ### Where mistakes hide
#
# Here are three wrong ones. The first forgets $s$ in the gradient of the pictures. The second forgets to turn $G$ over for the texts. The third gives $\sum G$ to the temperature. **Predict**, for each of the points in the table, which of them are found.


# %%
def wrongly(which):
    """contrastive_loss with one mistake."""

    def layer(z_image, z_text, logit_scale):
        loss, right = contrastive_loss(z_image, z_text, logit_scale)
        s = np.exp(logit_scale)
        g = symmetric_cross_entropy(s * z_image @ z_text.T)[1]()

        def backward():
            d_image, d_text, d_scale = right()
            if which == "s forgotten":
                return g @ z_text, d_text, d_scale
            if which == "G not turned":
                return d_image, s * g @ z_image, d_scale
            return d_image, d_text, g.sum()

        return loss, backward

    return layer


z, w = l2_normalize(rng.standard_normal((2, 5, 4)))[0]
points = {"one pair": (z[:1], w[:1], np.array(1.5)), "s = 1": (z, w, np.array(0.0))}
points |= {"texts = pictures": (z, z, np.array(1.5)), "random": (z, w, np.array(1.5))}
table = {}
print("worst error    " + "".join(f"{name:>18}" for name in points))
for which in ("s forgotten", "G not turned", "ΣG for ΣG∘S"):
    table[which] = [check(wrongly(which), *p).max_error for p in points.values()]
    print(f"{which:15}" + "".join(f"{error:18.0e}" for error in table[which]))

# %% tags=["numbers"]
errors = np.array(list(table.values()))
assert errors[:, 0].max() < 1e-9 and errors[:, 3].min() > 0.05
assert errors[0, 1] < 1e-12 and errors[1, 2] < 1e-12
assert errors[1:, 1].min() > 0.01 and errors[[0, 2], 2].min() > 0.01

# %% [markdown] tags=["answer"]
# One pair finds nothing: with one answer to choose from, the loss is 0 and so is every gradient, right or wrong. (A training with a batch of 1 does the same: it runs, and learns nothing.) At $s = 1$ the forgotten $s$ hides. If the texts lie where the pictures do, $S$ is symmetric, and so is $G$: whether it is turned over cannot be seen. Only at random are all three found.

# %% [markdown]
# ## 5. From features
#
# The encoders give *features* of any length. The last piece is the step onto the sphere, $z = x/|x|$, which you wrote in notebook 3, and whose backward you have: `z, backward = l2_normalize(x)`.
#
# **Write** the loss as the encoders need it, by means of your `contrastive_loss`.


# %% tags=["exercise"]
@exercise("clip_loss")
def clip_loss(image_features, text_features, logit_scale):
    """CLIP's loss of features (N, E) of any length; logit_scale () = ln 1/τ.

    -> loss, backward; backward() -> d_image (N, E), d_text (N, E), d_logit_scale ()
    """
    ### BEGIN SOLUTION
    z_image, image_backward = l2_normalize(image_features)
    z_text, text_backward = l2_normalize(text_features)
    loss, contrastive = contrastive_loss(z_image, z_text, logit_scale)

    def backward():
        d_image, d_text, d_logit_scale = contrastive()
        return image_backward(d_image), text_backward(d_text), d_logit_scale

    return loss, backward
    ### END SOLUTION


grade(clip_loss)

# %% [markdown] tags=["slide"]
# ## 6. Forces you can see
#
# Forget the encoders. Take six pairs of free points on a circle, a disc for each picture and a square for each text, and let them slide down the gradient of your `clip_loss`. Nothing else happens. **Predict** where they end.

# %% alt="Three circles with six discs and six squares in six colours, partners joined by lines. At first they lie anywhere and arrows show where they are pushed. A few steps later most partners are near each other. In the end each square lies in its disc, and the six pairs stand all around the circle." tags=["slide", "output"]
rng = np.random.default_rng(0)
points = rng.standard_normal((2, 6, 2))  # pictures and texts: six each, in the plane
LOGIT_SCALE = np.log(4)
stages = {}
for step in range(2001):
    loss, backward = clip_loss(*points, LOGIT_SCALE)
    if step in (0, 8, 2000):
        stages[step] = l2_normalize(points)[0], loss
    d_pictures, d_texts, _ = backward()
    points = points - 0.5 * np.stack([d_pictures, d_texts])

figure = Figure(figsize=(9.4, 3.4), layout="constrained")
circle = np.linspace(0, 2 * np.pi, 200)
for ax, (step, (places, loss)) in zip(figure.subplots(1, 3), stages.items()):
    ax.plot(np.cos(circle), np.sin(circle), color="#cccccc", lw=1, zorder=0)
    forces = -np.stack(clip_loss(*places, LOGIT_SCALE)[1]()[:2])
    for k in range(6):
        ax.plot(*places[:, k].T, color=f"C{k}", lw=1)
        for kind, marker, size in ((0, "o", 15), (1, "s", 7)):
            here, force = places[kind, k], 0.9 * forces[kind, k]
            ax.plot(*here, marker, color=f"C{k}", ms=size, mec="white")
            if step == 0 and np.hypot(*force) > 0.08:
                style = {"arrowstyle": "->", "lw": 1.6, "color": f"C{k}"}
                ax.annotate("", here + force, here, arrowprops=style)
    ax.set(aspect="equal", xlim=(-1.35, 1.35), ylim=(-1.35, 1.35))
    ax.set_title(f"step {step}: loss {loss:.2f}")
    ax.axis("off")
figure

# %%
discs, squares = stages[2000][0]
angles = np.sort(np.degrees(np.arctan2(discs[:, 1], discs[:, 0])))
gaps = np.diff(angles, append=angles[0] + 360)
apart = np.degrees(np.arccos(np.clip((discs * squares).sum(1), -1, 1)))
print("between neighbours:", *(f"{gap:.0f}°" for gap in gaps))
print(f"between partners: at most {apart.max():.1f}°")
ideal = np.stack([np.cos(k := np.arange(6) * np.pi / 3), np.sin(k)], 1)
least = clip_loss(ideal, ideal, LOGIT_SCALE)[0]
print(f"loss {stages[2000][1]:.4f}; of six evenly spread pairs {least:.4f}")

# %% tags=["numbers"]
assert gaps.min() > 45 and gaps.max() < 75 and apart.max() < 8
assert stages[0][1] > stages[8][1] > stages[2000][1] > least - 1e-6
assert stages[2000][1] < 1.02 * least

# %% [markdown] tags=["answer"]
# Partners meet, and strangers keep their distance, as even as a circle allows. Two forces do it: the diagonal of $G$ pulls, the rest pushes. The loss does not go to 0, for on a circle six points must have neighbours, and at $s = 4$ a neighbour at 60° still counts. Whoever wants a smaller loss needs more room, that is dimensions, or a larger $s$.

# %% [markdown] tags=["slide"]
# ### The temperature moves too
#
# **Predict.** The six pairs as they were thrown, most of them in the wrong places: does the loss ask for a larger $s$, or a smaller? And when they have come to rest?

# %% alt="The loss against s on a logarithmic axis, for two states. As thrown, the curve rises steeply with s, far above ln 6, and the short black slope at s = 4 points up. At rest, the curve falls towards zero and the slope points down." tags=["slide", "output"]
figure = Figure(figsize=(7, 3.4), layout="constrained")
ax = figure.subplots()
scales = np.linspace(0, np.log(100), 120)
slopes = {}
for step, colour, name in ((0, plots.RED, "as thrown"), (2000, plots.BLUE, "at rest")):
    places = stages[step][0]
    losses = [clip_loss(*places, scale)[0] for scale in scales]
    ax.plot(np.exp(scales), losses, color=colour, lw=2, label=name)
    loss, backward = clip_loss(*places, LOGIT_SCALE)
    slopes[name] = backward()[2]
    near = LOGIT_SCALE + np.array([-0.4, 0.4])
    tangent = loss + slopes[name] * (near - LOGIT_SCALE)
    ax.plot(np.exp(near), tangent, color="black", lw=1.5)
    ax.plot(np.exp(LOGIT_SCALE), loss, "o", color="black", ms=5)
ax.axhline(np.log(6), color=plots.GREY, ls="--", lw=1)
style = {"textcoords": "offset points", "ha": "right", "color": plots.GREY}
ax.annotate("ln 6: nothing is known", (100, np.log(6)), (0, 3), **style)
ax.set(xscale="log", ylim=(0, 8), xlabel="s = 1/τ (log scale)", ylabel="loss (nats)")
ax.set_xticks([1, 2, 4, 10, 20, 50, 100], [1, 2, 4, 10, 20, 50, 100])
ax.minorticks_off()
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False, loc="upper left")
figure

# %% tags=["numbers"]
assert slopes["as thrown"] > 0.1 and slopes["at rest"] < -0.1

# %% [markdown] tags=["answer"]
# While the pairs are wrong, confidence is punished, the slope points up, and descent makes the model *softer*. Once they are right it points down, and the loss asks for a *sharper* one. The short lines are $\sum G \circ S$.
#
# Where does it rest? Put $G$ in: the slope is zero when $\sum (P + Q) \circ S = 2 \sum_i S_{ii}$. On the left is the score that the model expects of its answers, on the right the score of the true ones. The temperature rests where the model is as sure as it has reason to be. (On pictures that it was *trained* on. Whether that holds for others is a question for notebook 11.)

# %% [markdown] tags=["slide"]
# ## 7. In the library
#
# Now the whole of CLIP on your loss: from the pixels and the tokens through both encoders to $L$, and all the way back.

# %%
print(put_in(symmetric_cross_entropy, contrastive_loss, clip_loss))
report = check_layer("whole model (ViT)", method="adjoint")
take_out()
print(report.headline)
print(f"{sum(row.ok for row in report.rows)} of {len(report.rows)} arrays are right.")

# %% tags=["numbers"]
assert report.ok and len(report.rows) > 50

# %% [markdown]
# ## What you know now
#
# **Explain**, in a sentence or two each:
#
# 1. Somebody's loss stays at 4.16 for a thousand steps. What is the first question that you ask, and what do you suspect?
# 2. A picture so general that half of all texts believe it to be theirs: what is the sign of its row of $G$, summed, and what does descent do?
# 3. The same picture is twice in a batch of eight, under its own name both times. All else is learned perfectly. Where does the loss stop?

# %% [markdown] tags=["answer"]
# 1. "How large is your batch?" For 64 pairs $\ln N$ is 4.16: nothing is being learned. The gradient does not reach the encoders, or the pairs do not belong together.
# 2. Positive: $\sum_j Q_{ij}$ is far above 1. Descent lowers its scores with all texts, but for the one that is its own.
# 3. Each of the two has two answers that cannot be told apart, so at best ½ each. Two of eight questions cost $\ln 2$, in rows as in columns: $2 \ln 2 / 8 \approx 0.17$. Below that no training gets, and the attempt spoils the rest. That is why the library's training never draws one thing twice in a batch.

# %% tags=["reading"]
twins = np.eye(8)
twins[1] = twins[0]
floor = clip_loss(twins, twins, np.log(100))[0]
print(f"twins in a batch of eight: {floor:.4f};   2 ln 2 / 8 = {2 * np.log(2) / 8:.4f}")

# %% tags=["numbers"]
assert abs(floor - 2 * np.log(2) / 8) < 1e-6 and round(floor, 2) == 0.17
assert round(np.log(64), 2) == 4.16

# %% [markdown]
# ## Going on
#
# - **More than one truth.** "Something to drink" is true of several pictures of a batch. Spread the truth: let $X$ hold the shares of each row and $Y$ those of each column, and $I$ becomes two matrices, $G = (P + Q - X - Y)/2N$. Derive it, and give your loss the argument `positives`, as the library's has it: rows and columns of the true entries.
# - **A batch of two.** What is the largest value that $|G_{ij}|$ can have for $N = 2$? Find features that reach it. What does the size of $N$ do to the answer?
# - **A temperature that does not move.** Let the six pairs slide down at $s = 1$, and at $s = 50$. What does $G$ look like after thirty steps in each, and which of the two gets stuck?
