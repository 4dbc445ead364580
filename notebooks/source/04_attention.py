# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown] tags=["slide"]
# # 4 · Attention
#
# *Goal:* you can write CLIP's attention, with its mask, its heads and its pooling, forward and back, and say where a gradient goes.
# *Needs:* notebooks 2 and 3. *Time:* about 120 minutes. *Mirrors:* [attention.py](../miniclip/attention.py).
#
# A linear layer treats each position by itself. A convolution looks at the neighbours, always the same ones. Attention decides where to look from what it sees: each position asks a question, all positions hold up a key, and the one that asks hears a mean of what the others have to say, in which those count most whose keys fit the question. All of it is two matrix products with a softmax between them. And on the way back there is one idea: **the gradient returns by the same weights.** Whom I listen to, I teach. To whom nobody listens, nothing comes back.

# %%
# %matplotlib inline
import numpy as np
from matplotlib.figure import Figure

from miniclip import load, plots
from miniclip.course import exercise, grade, put_in, take_out
from miniclip.data import emoji_names, emoji_pictures, plain
from miniclip.gradcheck import check, check_layer, jacobians
from miniclip.layers import embedding, layer_norm, linear, softmax
from miniclip.preprocess import normalize
from miniclip.resnet import bottleneck, conv_norm

rng = np.random.default_rng(0)

# %% [markdown] tags=["slide"]
# ## 1. A weighted mean
#
# $$S = \frac{Q K^\top}{\sqrt d} + M, \qquad A = \operatorname{softmax}(S), \qquad Y = A V$$
#
# (Vaswani et al. 2017.) A row of $Q$ is what one position asks, a row of $K$ what one position holds up, a row of $V$ what it has to say. $S_{ij}$ is how well key $j$ fits question $i$. The softmax makes each row of $S$ into weights that are positive and sum to 1, so row $i$ of $Y$ is a mean of the rows of $V$. $M$ is a mask, of which more in section 3; leave it aside for now.

# %% [markdown] tags=["slide"]
# Why $\sqrt d$? Let the entries of a question and of a key be random, with mean 0 and variance 1, and let both have $d = 64$ of them.
#
# **Predict.** How large is a score $q \cdot k$, typically: about 1, about 8, or about 64? And what would be bad about large ones?

# %%
print("            the scores       largest of 16 weights        the slope ∂A/∂S")
print("    d     plain    / √d         plain    / √d            plain     / √d")
plain_scale, scaled = {}, {}
for d in (4, 16, 64, 256):
    q, k = rng.standard_normal((2, 1000, 16, d))
    scores = (q[:, :1] * k).sum(-1)
    for found, by in ((plain_scale, 1.0), (scaled, d**-0.5)):
        weights = softmax(scores * by)[0]
        slope = weights * (1 - weights)
        found[d] = (scores * by).std(), weights.max(-1).mean(), slope.mean()
    columns = zip(plain_scale[d], scaled[d])
    print(f"{d:5}" + "".join(f"{one:12.3f}{two:9.3f}   " for one, two in columns))

# %% tags=["numbers"]
assert all(0.9 < plain_scale[d][0] / np.sqrt(d) < 1.1 for d in plain_scale)
assert all(0.9 < scaled[d][0] < 1.1 and 0.2 < scaled[d][1] < 0.45 for d in scaled)
assert plain_scale[256][1] > 0.85 and plain_scale[256][2] < scaled[256][2] / 4

# %% [markdown] tags=["answer"]
# About 8, which is $\sqrt{64}$. A score is a sum of $d$ products, each with the variance 1; variances add up to $d$, and the root of that is how far the sum strays. Such scores make the softmax choose one key and forget the rest. That is a matter of taste on the way forward. On the way back it is fatal: the slope of a softmax is made of $A_{ij}(1 - A_{ij})$, and where the weights are 0 and 1 it is gone. A wide head that is not scaled has made up its mind before it has learned anything. Divided by $\sqrt d$, the scores are as large at every width.

# %% [markdown] tags=["slide"]
# ### The way back
#
# Given is $dY$. We go from the last step to the first. Of a product $Y = AV$, both factors get the gradient times the other one:
#
# $$dV = A^\top dY, \qquad dA = dY\, V^\top$$
#
# The first is the idea above, as a formula. What position $j$ gets for its value is $\sum_i A_{ij}\, dy_i$: from each position that looked at it, by the weight with which it looked.
#
# Then the softmax, as in notebook 3, row by row. And then the product $Q K^\top$, with its scale:
#
# $$dS_{ij} = A_{ij} \Big( dA_{ij} - \sum_l A_{il}\, dA_{il} \Big), \qquad dQ = \frac{dS\, K}{\sqrt d}, \qquad dK = \frac{dS^\top Q}{\sqrt d}$$

# %% [markdown] tags=["slide"]
# What does $dS$ want? Put $dA_{ij} = dy_i \cdot v_j$ in. The sum is $dy_i \cdot y_i$, for $y_i$ is the mean of the $v_l$. So
#
# $$dS_{ij} = A_{ij} \; dy_i \cdot (v_j - y_i)$$
#
# Position $i$ compares what $j$ says with what it hears on the whole. If $v_j$ leads further in the direction that the loss wants, that score is raised; if less far, it is lowered. And if all say the same, there is nothing to choose, and no question and no key learns anything.

# %% [markdown]
# **Write** it, for stacks of matrices: whatever axes stand before the last two are batch and heads. `.swapaxes(-1, -2)` transposes. The softmax you may use: `weights, softmax_back = softmax(scores)`.


# %% tags=["exercise"]
@exercise("attend")
def attend(q, k, v, mask=None):
    """softmax(q kᵀ / √d + mask) v.

    q (…, A, d), k (…, T, d), v (…, T, d); mask of a shape that fits the scores
    (…, A, T), or None -> y (…, A, d), backward; backward(dy) -> dq, dk, dv
    """
    ### BEGIN SOLUTION
    scale = q.shape[-1] ** -0.5
    scores = q @ k.swapaxes(-1, -2) * scale
    if mask is not None:
        scores = scores + mask
    weights, softmax_back = softmax(scores)

    def backward(dy):
        dscores = softmax_back(dy @ v.swapaxes(-1, -2)) * scale
        dv = weights.swapaxes(-1, -2) @ dy
        return dscores @ k, dscores.swapaxes(-1, -2) @ q, dv

    return weights @ v, backward
    ### END SOLUTION


grade(attend)

# %% [markdown]
# ## 2. Look: attention over an emoji
#
# The library comes with a small CLIP that was trained on emoji. Behind the first of the four stages of its picture encoder, a picture is a grid of 16 × 16 places, and each has 96 numbers that say what is to be seen there. We let places ask: *who looks like me?* So the numbers are question and key at once (centred and of length 1, then times 8, which decides how choosy they are).
#
# `attend` returns what is heard, and not the weights. **Predict** what you have to give it as values, so that it returns the weights themselves.


# %% [markdown] tags=["answer"]
# The unit matrix: $A I = A$. Position $j$ then says "I am $j$", and a mean of these *is* the weights.

# %% [markdown]
# `who_looks` does that. One thing is in the way: here values are as wide as keys, and 256 places need 256 different values. So questions and keys are filled up with zeros, which add nothing to any score; the wider $\sqrt d$ is made up for.


# %%
def who_looks(q, k, mask=None):
    """The weights of attend.  q (…, A, d), k (…, T, d) -> (…, A, T)"""
    (tokens, d), batch = k.shape[-2:], k.shape[:-2]
    wide = max(tokens, d)
    fill = [(0, 0)] * (k.ndim - 1) + [(0, wide - d)]
    q, k = np.pad(q * (wide / d) ** 0.5, fill), np.pad(k, fill)
    names = np.broadcast_to(np.eye(tokens, wide), (*batch, tokens, wide))
    return attend(q, k, names, mask)[0][..., :tokens]


# %%
def drawings(*names, by="noto"):
    """What one artist made of these things: uint8 (len(names), 64, 64, 4)."""
    code = {entry["name"]: entry["code"] for entry in emoji_names()}
    pictures, codes = emoji_pictures(by)
    return pictures[[codes.index(code[name]) for name in names]]


def grids(pictures):
    """The trained picture encoder, up to its pooling: the grid after each layer."""
    x = normalize(plain(pictures, 64), clip.config).transpose(0, 2, 3, 1)
    p, found = clip.params["visual"], []
    for i, stride in ((1, 2), (2, 1), (3, 1)):
        x = conv_norm(x, p, i, False, stride=stride, padding=1)[0]
    x = x.reshape(len(x), 16, 2, 16, 2, -1).mean((2, 4))
    for layer, stride in (("layer1", 1), ("layer2", 2), ("layer3", 2), ("layer4", 2)):
        for k, block in enumerate(p[layer]):
            x = bottleneck(x, block, stride if k == 0 else 1, False)[0]
        found.append(x)
    return found


clip = load("emoji")
things = ("rainbow", "hamburger", "crown")
rgb = plain(drawings(*things), 64).transpose(0, 2, 3, 1)
features = grids(drawings(*things))[0].reshape(len(things), 256, -1)
features = features - features.mean(1, keepdims=True)
features = features / np.sqrt((features**2).sum(-1, keepdims=True))
question = 8 * features * features.shape[-1] ** 0.5  # attend divides by √d
weights = who_looks(question, features)
print("weights", weights.shape, "and each row sums to", weights.sum(-1).mean().round(6))

# %% tags=["numbers"]
assert np.allclose(weights.sum(-1), 1) and weights.min() >= 0
assert features.shape == (3, 256, 96)
alike = softmax(8 * features @ features.swapaxes(1, 2))[0]
assert np.allclose(weights, alike, atol=1e-5)
twin = weights[2, 16 * 10 + 4].reshape(16, 16)[9:12, 11:13]
assert twin.max() > 5 / 256 > 5 * np.median(weights)

# %% alt="Three emoji, a rainbow, a hamburger and a crown, each twice, with a cross where a place asks. Bright are the places that it looks at: along the same band of the rainbow, here and there on the bun, along the salad, at the other red stone of the crown." tags=["slide", "output"]
asking = (((4, 6), (9, 11)), ((4, 5), (8, 8)), ((10, 4), (6, 6)))  # row and column
figure = Figure(figsize=(9, 6.2), layout="constrained")
axes = figure.subplots(2, 3)
for n, places in enumerate(asking):
    for ax, (row, column) in zip(axes[:, n], places):
        seen = weights[n, 16 * row + column].reshape(16, 16)
        bright = np.clip(seen / np.sort(seen.ravel())[-8], 0, 1)
        bright = bright.repeat(4, 0).repeat(4, 1)
        ax.imshow(rgb[n] * (0.22 + 0.78 * bright[..., None]))
        ax.plot(4 * column + 1.5, 4 * row + 1.5, "+", color="white", ms=15, mew=4)
        ax.plot(4 * column + 1.5, 4 * row + 1.5, "+", color=plots.RED, ms=13, mew=2)
        ax.axis("off")
figure

# %% [markdown]
# The cross is where a place asks, and bright is where it looks. Nobody told it that a rainbow has bands, that salad runs across a hamburger, or that the red stone of the crown has a twin on the other side. A convolution of the usual size would have to be repeated many times to reach from one end of a band to the other; here it is one step, and the distance does not matter at all.
#
# That has a price. **Predict:** shuffle the 256 places, the same way for questions, keys and values. What happens to the output?

# %%
shuffled = rng.permutation(256)
straight = attend(question, features, features)[0]
mixed = attend(*(a[:, shuffled] for a in (question, features, features)))[0]
print("largest difference:", f"{np.abs(mixed - straight[:, shuffled]).max():.0e}")

# %% tags=["numbers"]
assert np.abs(mixed - straight[:, shuffled]).max() < 1e-5

# %% [markdown] tags=["answer"]
# It is shuffled as well, and nothing else: each place hears what it heard before. Attention does not know where anything stands. "Dog bites man" and "man bites dog" are the same bag of words to it. So the order has to be written into the tokens, which is what the positional embedding of notebook 6 does.

# %% [markdown] tags=["slide"]
# ## 3. Who may look where
#
# CLIP's text encoder reads from left to right: a position may look at itself and at what stands before it, never ahead. (Radford et al. 2021, §2.4, kept this so that a pre-trained language model could be put in its place.) The mask $M$ does it. It is added to the scores: 0 where one may look, $-\infty$ where not; $e^{-\infty}$ is exactly 0, and the other weights share the whole among them.

# %% [markdown]
# **Write** the mask for a number of tokens. Row $t$ is what position $t$ may look at. Take care: $0 \cdot \infty$ is no number.


# %% tags=["exercise"]
@exercise("causal_mask")
def causal_mask(tokens):
    """(tokens, tokens) of floats: 0 where a position may look, −inf where not."""
    ### BEGIN SOLUTION
    return np.triu(np.full((tokens, tokens), -np.inf), 1)
    ### END SOLUTION


grade(causal_mask)

# %% [markdown]
# Now the way back. Six positions attend to one another, behind the mask. The loss looks at the output of position 2 alone (we count from 0), so $dY$ is 0 in all other rows.
#
# **Predict** for each position which of its three gradients are 0: that of its question, of its key, of its value.

# %% tags=["slide"]
q, k, v = rng.standard_normal((3, 6, 4))
dy = np.zeros((6, 4))
dy[2] = rng.standard_normal(4)
received = attend(q, k, v, causal_mask(6))[1](dy)
print("position    " + "".join(f"{t:8}" for t in range(6)))
for name, gradient in zip(("question", "key", "value"), received):
    lengths = np.sqrt((gradient**2).sum(-1))
    print(f"{name:12}" + "".join(f"{length:8.3f}" for length in lengths))

# %% tags=["numbers"]
lengths = np.sqrt((np.stack(received) ** 2).sum(-1))
assert np.array_equal(lengths[0] > 0, np.arange(6) == 2)
assert np.array_equal(lengths[1] > 0, np.arange(6) <= 2)
assert np.array_equal(lengths[2] > 0, np.arange(6) <= 2)

# %% [markdown] tags=["answer"]
# Only position 2 asked anything that counted, so only its question gets a gradient. It looked at 0, 1 and itself, so these get one for their keys and values. The later ones were not looked at: a weight of exactly 0 going forward is a gradient of exactly 0 coming back. **The mask needs no line in the backward pass.** The weights remember it.

# %% [markdown]
# **Look** at all pairs at once. The same $x$ is question, key and value, as in a Transformer. Each square says how much the output at one position moves with the input at another: the size of a block of the Jacobian.


# %% alt="Two matrices of six by six squares: how much each output depends on each input. Without a mask all squares are filled. With the causal mask everything above the diagonal is empty." tags=["slide", "output"]
def open_attention(x):
    y, back = attend(x, x, x)
    return y, lambda dy: sum(back(dy))


def masked_attention(x):
    y, back = attend(x, x, x, causal_mask(len(x)))
    return y, lambda dy: sum(back(dy))


x = rng.standard_normal((6, 4))
figure = Figure(figsize=(7.6, 3.5), layout="constrained")
blocks = []
for ax, layer in zip(figure.subplots(1, 2), (open_attention, masked_attention)):
    jacobian = jacobians(layer, x)["x"].numeric.reshape(6, 4, 6, 4)
    blocks.append(np.sqrt((jacobian**2).sum((1, 3))))
    image = ax.imshow(blocks[-1], cmap="Blues", vmin=0, vmax=2)
    ax.set(xlabel="input at position", ylabel="output at position")
    ax.set_title("without a mask" if layer is open_attention else "with the mask")
figure.colorbar(image, ax=figure.axes, label="size of ∂y / ∂x")
figure

# %% tags=["numbers"]
above = np.triu(np.ones((6, 6), bool), 1)
assert blocks[0].min() > 0 and (blocks[1][above] == 0).all()
assert blocks[1][~above].min() > 0

# %% [markdown]
# Read a row, and you see whom a position listens to. Read a column, and you see who teaches it. Behind the mask the first position hears nobody but itself and is taught by all; the last one hears all and is taught by nobody else. That is why CLIP reads a text at its end.

# %% [markdown] tags=["slide"]
# ## 4. Heads
#
# One softmax gives one mean. A word that wants to hear *what* is meant and *which colour* it has gets the mean of both answers, in one. So the width $D$ is cut into $H$ heads of $d = D / H$ numbers. Each has its own question, keys and values, and looks where it likes; their answers stand side by side. It costs hardly more: $H$ products of width $d$ are as much work as one of width $D$.

# %% [markdown] tags=["slide"]
# No new mathematics, only axes. One linear layer makes all three for all heads, and its output has the shape $(N, T, 3D)$. Its last axis is ordered like this: first all questions, then all keys, then all values; and within each, head after head, $d$ numbers each. `attend` wants $(N, H, T, d)$.
#
# **Predict.** Somebody makes the answers, which are $(N, H, T, d)$, into $(N, T, D)$ by `y.reshape(N, T, D)`. At which shapes does NumPy complain?

# %% [markdown] tags=["answer"]
# At none. The number of entries is right, so a reshape always fits. It never moves a number: it only says where rows end. Position 0 then gets what head 0 heard at positions 0, 1, 2, … A network of this kind trains, badly, and no shape ever betrays it. To bring the axes into another order you need a transpose *before* the reshape.

# %% [markdown]
# **Write** both ways: cut, attend, put together; and on the way back the inverse of each, in the reverse order. `attend` is at hand: yours, or the library's.


# %% tags=["exercise"]
@exercise("attend_heads")
def attend_heads(qkv, heads, mask=None):
    """attend in each head.

    qkv (N, T, 3·D): all questions, then all keys, then all values, in each head
    after head -> y (N, T, D), head after head; backward(dy) -> dqkv (N, T, 3·D)
    """
    ### BEGIN SOLUTION
    n, t, width = qkv.shape
    d = width // (3 * heads)
    q, k, v = qkv.reshape(n, t, 3, heads, d).transpose(2, 0, 3, 1, 4)
    y, attend_back = attend(q, k, v, mask)  # (N, H, T, d)

    def backward(dy):
        dy = dy.reshape(n, t, heads, d).swapaxes(1, 2)
        dqkv = np.stack(attend_back(dy))  # (3, N, H, T, d)
        return dqkv.transpose(1, 3, 0, 2, 4).reshape(qkv.shape)

    return y.swapaxes(1, 2).reshape(n, t, heads * d), backward
    ### END SOLUTION


grade(attend_heads)

# %% [markdown]
# **Look** into the trained model. Its text encoder has four heads in each block. Here is the first block as it reads *woman with red hair*. A row is a word that asks, a column a word that is heard.

# %% alt="Four matrices of weights, one for each head, six words by six words. All are empty above the diagonal and the first row is one square. Each head has its own pattern: some rows are a single dark square, others are spread out." tags=["slide", "output"]
text = clip.params["transformer"]["resblocks"][0]
config = clip.config["text_cfg"]
heads = config["heads"]
tokens = clip.tokenizer(["woman with red hair"], config["context_length"])
tokens = tokens[:, : int((tokens != 0).sum())]
words = [clip.tokenizer.tokens[i].replace("</w>", "") for i in tokens[0]]
words[0], words[-1] = "[start]", "[end]"

x = embedding(tokens, clip.params["token_embedding"]["weight"])[0]
x = layer_norm(x + clip.params["positional_embedding"][: len(words)], **text["ln_1"])[0]
qkv = linear(x, text["attn"]["in_proj_weight"], text["attn"]["in_proj_bias"])[0]
q, k, _ = qkv.reshape(len(words), 3, heads, -1).transpose(1, 2, 0, 3)
by_head = who_looks(q, k, causal_mask(len(words)))

figure = Figure(figsize=(10, 3.2), layout="constrained")
axes = figure.subplots(1, heads, sharey=True)
for h, ax in enumerate(axes):
    image = ax.imshow(by_head[h], cmap="Blues", vmin=0, vmax=1)
    ax.set_xticks(range(len(words)), words, rotation=90)
    ax.set_yticks(range(len(words)), words)
    ax.set_title(f"head {h}", fontsize=10)
axes[0].set_ylabel("asks")
figure.colorbar(image, ax=axes, label="weight", shrink=0.8)
figure

# %% tags=["numbers"]
assert (
    heads == 4
    and np.allclose(by_head.sum(-1), 1, atol=1e-5)
    and np.allclose(by_head[:, 0, 0], 1)
)
assert (by_head[:, np.triu(np.ones(by_head.shape[1:], bool), 1)] == 0).all()
apart = [np.abs(by_head[a] - by_head[b]).max() for a in range(heads) for b in range(a)]
assert max(apart) > 0.5

# %% [markdown]
# Four heads, four habits. The first row is the same in all: the start can look at nobody but itself. Be careful with stories about what a head "means", though. This is one block and one sentence, and weights say who is heard, not what is made of it.
#
# ### A bias that nobody trains
#
# The linear layer that makes questions, keys and values has a bias for each of the three. All of them began at 0, and the model was trained for more than a thousand steps. **Predict** which of the three hardly moved.

# %% tags=["slide"]
names = ("questions", "keys", "values")
largest = []
for number, block in enumerate(clip.params["transformer"]["resblocks"]):
    parts = np.abs(np.split(block["attn"]["in_proj_bias"], 3)).max(1)
    largest.append(parts)
    row = "".join(f"   {name} {part:.0e}" for name, part in zip(names, parts))
    print(f"text block {number}: largest bias of the{row}")

# %% tags=["numbers"]
largest = np.array(largest)
assert (largest[:, 1] < 1e-3).all() and (largest[:, [0, 2]] > 0.01).all()

# %% [markdown] tags=["answer"]
# That of the keys. A bias $b$ on all keys adds $q_i \cdot b$ to every score of row $i$: a constant, and a softmax does not see a constant (notebook 3). So its gradient is 0. Not small: zero, whatever the loss. What little stands there is rounding, which Adam, dividing each gradient by its own size, took for a signal. Some models leave this bias out (Whisper does); CLIP and GPT-2 carry it along.

# %% [markdown] tags=["slide"]
# ## 5. Pooling
#
# At the end of the ResNet a picture is a grid of $H \times W$ pixels of $C$ numbers, and CLIP wants one vector. A mean would let every pixel count alike. So CLIP lets the picture itself ask, once: *what are you showing?* The one who asks is the mean of the pixels.
#
# $$t_0 = \operatorname{mean}(x) + e_0, \qquad t_j = x_j + e_j, \qquad y = W_c \operatorname{attend}(W_q\, t_0,\; W_k\, t,\; W_v\, t)$$
#
# with a positional embedding $e$, and a bias with each $W$. In all heads, as before.

# %% [markdown] tags=["slide"]
# The forward pass is given. Every layer in it gave you its backward. So what is left is to follow the ways, and where two meet, to **add**. A pixel goes three ways: it is key and value as itself, and it is a part of the mean. The first token goes three ways too: it asks, it is a key, it is a value. And the embedding $e$ is the same for all pictures.

# %% [markdown]
# **Write** the backward pass.


# %% tags=["exercise"]
@exercise("attention_pool")
def attention_pool(x, p, heads):
    """The mean of all pixels asks, once, what the picture shows.

    x (N, H, W, C); p: positional_embedding (1 + H·W, C) and q_proj, k_proj, v_proj
    (C, C), c_proj (E, C), each {"weight", "bias"} -> y (N, E), backward;
    backward(dy) -> dx, {"positional_embedding": …, "q_proj": {…}, …} like p
    """
    n, channels = x.shape[0], x.shape[-1]
    pixels = x.reshape(n, -1, channels)
    count = pixels.shape[1]
    tokens = np.concatenate([pixels.mean(1, keepdims=True), pixels], 1)
    tokens = tokens + p["positional_embedding"]  # (N, 1 + H·W, C)

    def split(t):
        """(N, T, C) -> (N, heads, T, C / heads)"""
        return t.reshape(n, -1, heads, channels // heads).swapaxes(1, 2)

    def merge(t):
        """The inverse of split."""
        return t.swapaxes(1, 2).reshape(n, -1, channels)

    q, q_back = linear(tokens[:, :1], **p["q_proj"])  # (N, 1, C): one question
    k, k_back = linear(tokens, **p["k_proj"])
    v, v_back = linear(tokens, **p["v_proj"])
    heard, attend_back = attend(split(q), split(k), split(v))
    y, c_back = linear(merge(heard)[:, 0], **p["c_proj"])

    def backward(dy):
        ### BEGIN SOLUTION
        dheard, d_c = c_back(dy)
        dq, dk, dv = attend_back(split(dheard[:, None]))
        dfirst, d_q = q_back(merge(dq))
        dtokens_k, d_k = k_back(merge(dk))
        dtokens_v, d_v = v_back(merge(dv))
        dtokens = dtokens_k + dtokens_v
        dtokens[:, :1] += dfirst
        dpixels = dtokens[:, 1:] + dtokens[:, :1] / count
        grads = {"positional_embedding": dtokens.sum(0), "c_proj": d_c}
        grads |= {"q_proj": d_q, "k_proj": d_k, "v_proj": d_v}
        return dpixels.reshape(x.shape), grads
        ### END SOLUTION

    return y, backward


grade(attention_pool)

# %% [markdown]
# **Look** at the trained model once more. Its last grid is small, 2 × 2, so a pixel is a quarter of the picture, and there are twelve heads. Here they look at four emoji. The first token, being the mean, is a quarter of each quarter; its weight is shared out among them, so that the four sum to 1.

# %% alt="Four emoji in rows and twelve heads in columns. In each small picture the quarters that the head looks at are bright and the others pale. Some heads look at the same quarter in all four emoji, others at different ones." tags=["slide", "output"]
pool = clip.params["visual"]["attnpool"]
pool_heads = clip.config["vision_cfg"]["width"] * 32 // 64


def looks(pictures):
    """How much of each quarter each head takes: (N, heads, 4)."""
    x = grids(pictures)[-1]
    pixels = x.reshape(len(x), -1, x.shape[-1])
    t = np.concatenate([pixels.mean(1, keepdims=True), pixels], 1)
    t = t + pool["positional_embedding"]
    q, k = linear(t[:, :1], **pool["q_proj"])[0], linear(t, **pool["k_proj"])[0]
    q, k = (a.reshape(len(x), -1, pool_heads, 64).swapaxes(1, 2) for a in (q, k))
    w = who_looks(q, k)[:, :, 0]
    return w[..., 1:] + w[..., :1] / 4


shown = drawings("dog face", "guitar", "crown", "snowman")
taken = looks(shown)
figure = Figure(figsize=(10, 3.6), layout="constrained")
for n, row in enumerate(figure.subplots(4, pool_heads)):
    picture = plain(shown[n : n + 1], 64)[0].transpose(1, 2, 0)
    for h, ax in enumerate(row):
        share = taken[n, h].reshape(2, 2).repeat(32, 0).repeat(32, 1)[..., None]
        ax.imshow(np.clip(picture * share + 0.82 * (1 - share), 0, 1))
        ax.axis("off")
        if n == 0:
            ax.set_title(f"{h}", fontsize=9)
figure

# %%
codes = emoji_pictures("noto")[0]
many = looks(codes[:: len(codes) // 200])
strays = many.std(0).max(-1)  # over the pictures, of the quarter that varies most
fixed, free = np.flatnonzero(strays < 0.1), np.flatnonzero(strays > 0.2)
print(f"over {len(many)} emoji, heads that look")
print(f"at the same place in all:                  {len(fixed):2}")
print(f"at a place that depends on the picture:    {len(free):2}")

# %% tags=["numbers"]
assert taken.shape == (4, 12, 4) and np.allclose(taken.sum(-1), 1, atol=1e-4)
assert 1 <= len(fixed) < len(free)

# %% [markdown]
# A head may give up asking: it looks at one place, whatever is there. The positional embedding stands in every key, so a key can say *I am the one below on the right*, and to such a head this is all that counts. The others go by what they see. Both come out of the same equation.

# %% [markdown] tags=["slide"]
# ## 6. In the library
#
# Put your functions into the library. `attend` and `attend_heads` then run in every block of the text encoder and of the Vision Transformer, `attention_pool` at the end of the ResNet. Both models are small ones here, and every array of theirs is checked.

# %%
print(put_in(attend, attend_heads, attention_pool))
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
# The library does the pooling otherwise, by the way. With one question only, keys and values of all tokens need not be formed at all: $q \cdot (W_k t) = (W_k^\top q) \cdot t$. The same numbers, for a small part of the work; read it in [attention.py](../miniclip/attention.py), now that you know what it has to come to.
#
# ## What you know now
#
# **Explain**, in a sentence or two each:
#
# 1. In one head, nobody looks at position 5, not even itself. Which of its three gradients are 0: of its question, its key, its value?
# 2. Somebody leaves $\sqrt d$ out, forward and back. The gradient check is right to 15 digits. What has it proven, and what is wrong?
# 3. In one head all values are the same vector. What do questions and keys learn, and why?

# %% [markdown] tags=["answer"]
# 1. Its value and its key: both come back by the weights with which it was looked at. Its question is another matter: it looked at others.
# 2. That the backward pass belongs to the forward pass. It says nothing about the forward pass being the one that was meant. This one saturates the softmax at the start, the more so the wider its heads, and then its slope is nearly 0.
# 3. Nothing: $dS_{ij} = A_{ij}\, dy_i \cdot (v_j - y_i)$, and $y_i$, a mean of equal vectors, is that vector. Where all say the same, it does not matter who is asked.

# %% [markdown] tags=["reading"]
# To see the first and the third:

# %% tags=["reading"]
q, k, v, dy = rng.standard_normal((4, 6, 4))
hidden = np.where(np.arange(6) == 5, -np.inf, 0.0)  # nobody may look at position 5
dq, dk, dv = attend(q, k, v, hidden)[1](dy)
print("position 5:", *(f"{np.abs(g[5]).max():.3f}" for g in (dq, dk, dv)))
dq, dk, dv = attend(q, k, np.broadcast_to(v[0], v.shape))[1](dy)
print("equal values:", *(f"{np.abs(g).max():.0e}" for g in (dq, dk, dv)))
print(check(open_attention, q).headline)

# %% tags=["numbers"]
assert np.abs(dq).max() < 1e-14 and np.abs(dk).max() < 1e-14 and np.abs(dv).max() > 0.1

# %% [markdown]
# ## Going on
#
# - **Memory.** $A$ has $T^2$ entries in each head, and your backward keeps it. For $T = 1000$, 12 heads and 32 pictures in float32, how much is that? It can be had without: keep the largest score and the sum of each row, and compute the weights again, tile by tile (Dao et al. 2022). Notebook 12 does that for the loss.
# - **A position in the score.** Add a learned number $b_{i-j}$ to $S_{ij}$, by the distance alone. What is its gradient? Where do its terms come from?
# - **More than one question.** Let a pooling ask with two learned questions in place of the mean. Which lines of your backward pass change?
