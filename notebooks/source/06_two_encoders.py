# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown] tags=["slide"]
# # 6 · Two encoders
#
# *Goal:* you can put layers together to both encoders of CLIP, say what a shortcut does to a gradient, and look into a trained model from its pixels.
# *Needs:* notebooks 2 to 5. *Time:* about 90 minutes. *Mirrors:* [transformer.py](../miniclip/transformer.py), [vit.py](../miniclip/vit.py) and [text_encoder.py](../miniclip/text_encoder.py).
#
# The layers are done. What is left is to put them together, and the glue has a backward pass, too. In an encoder nearly all of the glue is one sign, the plus. Positions are added to tokens, attention is added to the stream, an MLP is added to that. And **a sum hands its gradient to every summand, whole.** This is why a network of many layers can be trained at all.

# %%
# %matplotlib inline
import numpy as np
from matplotlib.figure import Figure

from miniclip import encode_image, encode_text, load, plots
from miniclip.attention import causal_mask, self_attention
from miniclip.conv import conv2d
from miniclip.course import exercise, grade, put_in, take_out
from miniclip.data import emoji_names, emoji_pictures, plain
from miniclip.gradcheck import check_layer, draw_case
from miniclip.init import initialize, model_config
from miniclip.layers import embedding, l2_normalize, layer_norm, linear, quick_gelu
from miniclip.preprocess import normalize
from miniclip.transformer import activation_of
from miniclip.tree import flatten, tree_map

rng = np.random.default_rng(0)

# %% [markdown]
# ## 1. A chain: the MLP
#
# $$y = W_2\, a(W_1 x + b_1) + b_2$$
#
# Three layers in a row: linear, an activation, linear again. Each returns its output and its own backward. To go back, call these in the reverse order; what one returns, the next one takes. The parameters are in a dict `p`, and their gradients come back in a dict of the same shape, so that nobody has to keep account of them.
#
# **Write** it with `linear(x, **p["c_fc"])`, whose backward returns `dx` and a dict, and `activation(h)`, whose backward returns `dx` alone.


# %% tags=["exercise"]
@exercise("mlp")
def mlp(x, p, activation=quick_gelu):
    """y = W₂ a(W₁ x + b₁) + b₂.   x (..., D); p: c_fc, c_proj, with weight and bias.

    -> y (..., D), backward; backward(dy) -> dx, {"c_fc": …, "c_proj": …}
    """
    ### BEGIN SOLUTION
    h, back_fc = linear(x, **p["c_fc"])
    h, back_activation = activation(h)
    y, back_proj = linear(h, **p["c_proj"])

    def backward(dy):
        d, d_proj = back_proj(dy)
        dx, d_fc = back_fc(back_activation(d))
        return dx, {"c_fc": d_fc, "c_proj": d_proj}

    return y, backward
    ### END SOLUTION


grade(mlp)

# %% [markdown] tags=["slide"]
# ## 2. A stream: the residual block
#
# $$x_1 = x + \operatorname{attention}(\operatorname{norm}_1(x)), \qquad y = x_1 + \operatorname{mlp}(\operatorname{norm}_2(x_1))$$
#
# Think of $x$ as a stream that runs through all blocks. A block reads from it, and adds what it has found; it replaces nothing. The norm stands on the branch, in front of attention and MLP (*pre-norm*), so the stream itself is never touched.
#
# **Predict.** Let everything in a branch go wrong: its weights are zero, so its own gradient is zero. What is $dx$ then, for a given $dy$?

# %% [markdown] tags=["answer"]
# $dx = dy$. The way past the branch is open, whatever happens inside it: the gradient of what comes last reaches what comes first, whole.

# %% [markdown]
# Take one half, $y = x + f(x)$. The number $x$ goes two ways, and both bring something back: $dx = dy + (\text{what } f\text{'s backward makes of } dy)$. The block is this twice, the second half first.
#
# **Write** the block with `layer_norm(x, **p["ln_1"])`, `self_attention(h, p["attn"], heads, mask)` and your `mlp`. Each of their backwards returns `dx` and a dict.


# %% tags=["exercise"]
@exercise("residual_block")
def residual_block(x, p, heads, mask=None, activation=quick_gelu):
    """x₁ = x + attention(norm₁(x)), y = x₁ + mlp(norm₂(x₁)).   x (N, T, D).

    p: ln_1, attn, ln_2, mlp -> y (N, T, D), backward;
    backward(dy) -> dx, a dict with these four
    """
    ### BEGIN SOLUTION
    h, back_1 = layer_norm(x, **p["ln_1"])
    h, back_attention = self_attention(h, p["attn"], heads, mask)
    x1 = x + h
    h, back_2 = layer_norm(x1, **p["ln_2"])
    h, back_mlp = mlp(h, p["mlp"], activation)

    def backward(dy):
        d, d_mlp = back_mlp(dy)
        d, d_2 = back_2(d)
        dx1 = dy + d
        d, d_attention = back_attention(dx1)
        d, d_1 = back_1(d)
        return dx1 + d, {"ln_1": d_1, "attn": d_attention, "ln_2": d_2, "mlp": d_mlp}

    return x1 + h, backward
    ### END SOLUTION


grade(residual_block)

# %% [markdown]
# A Transformer is a list of such blocks: forward from the first to the last, back from the last to the first. The backwards are kept in a list. The gradients arrive in the reverse order, so that list is turned around.


# %%
def transformer(x, p, heads, mask=None, activation=quick_gelu):
    """All blocks in turn. x (N, T, D); p: {"resblocks": [block, …]} -> y, backward."""
    backwards = []
    for block in p["resblocks"]:
        x, back = residual_block(x, block, heads, mask, activation)
        backwards.append(back)

    def backward(dy):
        grads = []
        for back in reversed(backwards):
            dy, d_block = back(dy)
            grads.append(d_block)
        return dy, {"resblocks": grads[::-1]}

    return x, backward


# %% [markdown] tags=["slide"]
# ## 3. How deep may it be?
#
# Let us take 24 blocks, and put their halves together in four ways:
#
# | | one half |
# |---|---|
# | pre-norm, as CLIP | $x + f(\operatorname{norm}(x))$ |
# | no norm | $x + f(x)$ |
# | post-norm, as the first Transformer | $\operatorname{norm}(x + f(x))$ |
# | no shortcut | $f(\operatorname{norm}(x))$ |
#
# We watch how long the signal is behind each block, and how long the gradient is before it, for a random cotangent at the end. Once with the weights that CLIP starts from, and once with all matrices twice as large, as training might make them.
#
# **Predict.** Which of the four is the first to break, and how? Where do the tokens of a text, which are all different at the beginning, become alike?

# %%
DEPTH, WIDE, HEADS = 24, 64, 4
fresh = initialize(
    model_config("vit-tiny", width=WIDE, heads=HEADS, layers=DEPTH), 0, np.float64
)["transformer"]["resblocks"]


def half(way, x, f, norm):
    """One half of a block, put together in one of the ways -> y, backward(dy) -> dx."""
    if way == "post-norm":
        h, back = f(x)
        y, back_norm = norm(x + h)

        def backward(dy):
            d = back_norm(dy)[0]
            return d + back(d)[0]

        return y, backward
    h, back_norm = (x, lambda d: (d, None)) if way == "no norm" else norm(x)
    h, back = f(h)
    past = way != "no shortcut"
    return past * x + h, lambda dy: past * dy + back_norm(back(dy)[0])[0]


def depths(way, x, blocks):
    """RMS of the signal behind each block, of the gradient before each, and the end."""
    signal, backwards, grad = [], [], []
    for p in blocks:
        for name, f in (
            ("ln_1", lambda h, p=p: self_attention(h, p["attn"], HEADS)),
            ("ln_2", lambda h, p=p: mlp(h, p["mlp"])),
        ):

            def norm(h, p=p, name=name):
                return layer_norm(h, **p[name])

            x, back = half(way, x, f, norm)
            backwards.append(back)
        signal.append(np.sqrt((x * x).mean()))
    d = np.random.default_rng(1).standard_normal(x.shape)
    for back in reversed(backwards):
        d = back(d)
        grad.append(np.sqrt((d * d).mean()))
    return np.array(signal), np.array(grad[1::2][::-1]), x


def likeness(x):
    """The mean cosine between two different tokens of a text."""
    unit = x / np.sqrt((x * x).sum(-1, keepdims=True))
    cosines, count = unit @ unit.swapaxes(1, 2), x.shape[1]
    return (cosines.sum((1, 2)) - count).mean() / (count * (count - 1))


begin = rng.standard_normal((4, 16, WIDE))
WAYS = {"pre-norm": plots.BLUE, "no norm": plots.GREEN}
WAYS |= {"post-norm": plots.ORANGE, "no shortcut": plots.RED}
runs = {}
print(f"{'':27}{'signal':>9}{'gradient':>10}{'tokens alike':>14}")
for factor in (1, 2):
    blocks = [tree_map(lambda a: a * factor if a.ndim == 2 else a, p) for p in fresh]
    for way in WAYS:
        signal, grad, end = depths(way, begin, blocks)
        runs[factor, way] = signal, grad, likeness(end)
        print(f"weights × {factor}    {way:12}", end="")
        print(f"{signal[-1]:10.2g}{grad[0]:10.2g}{likeness(end):14.2f}")

# %% tags=["numbers"]
ends = {
    key: (signal[-1], grad[0], alike) for key, (signal, grad, alike) in runs.items()
}
for way in ("pre-norm", "no norm", "post-norm"):
    assert 0.8 < ends[1, way][0] < 2 and 0.8 < ends[1, way][1] < 2
    assert ends[1, way][2] < 0.3
assert 0.02 < ends[1, "no shortcut"][1] < 0.5 and ends[1, "no shortcut"][2] > 0.99
assert ends[2, "no norm"][0] > 100 and ends[2, "no norm"][1] > 1e6
assert ends[2, "no norm"][2] > 0.8
assert ends[2, "pre-norm"][1] < 100 and ends[2, "pre-norm"][2] < 0.7
assert ends[2, "post-norm"][2] > 0.9 and likeness(begin) < 0.1

# %% alt="Four plots against depth, on logarithmic axes. With the weights that CLIP starts from, signal and gradient are nearly level wherever there is a shortcut, and without one they are low and uneven. With weights twice as large, the signal grows from block to block without norms, and the gradient grows by many orders of magnitude on its way back; the others stay far below." tags=["slide", "output"]
figure = Figure(figsize=(9, 5.4), layout="constrained")
for row, factor in zip(figure.subplots(2, 2), (1, 2)):
    for ax, which in zip(row, (0, 1)):
        for way, colour in WAYS.items():
            numbers = runs[factor, way][which]
            ax.semilogy(np.arange(1, DEPTH + 1), numbers, color=colour, label=way, lw=2)
        ax.set(ylim=((0.05, 10), (0.05, 1e9))[factor - 1])
        ax.spines[["top", "right"]].set_visible(False)
        name = ("signal behind each block", "gradient before each block")[which]
        ax.set_title(f"{name}, weights × {factor}", fontsize=10)
        if factor == 2:
            ax.set_xlabel("block")
handles, labels = ax.get_legend_handles_labels()
figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
figure

# %% [markdown] tags=["answer"]
# - **With a shortcut** nothing happens at the beginning, with norms or without. CLIP makes the last matrix of each branch small, by the root of the number of branches, so a block starts as little more than its shortcut.
# - **Without norms** it breaks as soon as the weights grow. Each block multiplies the signal, and the gradient too, and 24 factors above 1 are an explosion. The tokens become alike, too: what the branches add is longer than what was there. With a norm before it, a branch does not know how long the stream is.
# - **Without a shortcut** the gradient does not vanish, as many would say; the norms see to its length. Something else has happened: all tokens are alike. Every attention takes a mean over tokens, and 24 means in a row leave one vector. A text of 16 words has become one word, and nothing behind it can tell them apart (Dong et al. 2021).
# - **Post-norm** keeps the length of everything, and yet its tokens become alike when the weights are large, for each norm shrinks what came along the shortcut. In pre-norm, what a token was at the beginning is still in the stream at the end.

# %% [markdown] tags=["slide"]
# ## 4. A picture becomes tokens
#
# A Transformer wants a sequence. A Vision Transformer cuts the picture into patches that do not overlap, from left to right and from top to bottom, and one linear layer makes a token of each. That is a convolution whose stride is as long as its kernel. One more token goes before them, the *class*: a vector of parameters, the same for all pictures, in which the blocks gather what the picture shows. And a position is added to each token, the class included, for attention does not know where a token stands.
#
# **Predict.** There is one class vector, one table of positions, and a batch of 512 pictures. What is the gradient of the class, in terms of $dx$, of shape $(512, T, D)$?

# %% [markdown] tags=["answer"]
# The class was copied into each picture, and the first position was added to it. So its gradient is `dx[:, 0].sum(0)`: the sum over the pictures, and not the mean. The same numbers stand in the first row of the gradient of the positions. A sum hands its gradient to every summand, whole: the two always get the same.

# %% [markdown]
# **Write** it by means of `conv2d(x, weight, stride=…)`, which takes channels last. The size of a patch is that of the kernel. Pictures come as $(N, 3, H, W)$.


# %% tags=["exercise"]
@exercise("picture_tokens")
def picture_tokens(images, p):
    """The class, then the patches row by row; the positions added to all.

    images (N, 3, H, W); p: {"conv1": {"weight": (D, 3, P, P)}, "class_embedding": (D,),
    "positional_embedding": (1 + patches, D)} -> x (N, 1 + patches, D), backward;
    backward(dx) -> dimages, a dict as p
    """
    ### BEGIN SOLUTION
    n, patch = len(images), p["conv1"]["weight"].shape[-1]
    grid, back_conv = conv2d(images.transpose(0, 2, 3, 1), **p["conv1"], stride=patch)
    patches = grid.reshape(n, -1, grid.shape[-1])
    first = np.broadcast_to(p["class_embedding"], (n, 1, grid.shape[-1]))
    x = np.concatenate([first, patches], 1) + p["positional_embedding"]

    def backward(dx):
        dimages, d_conv = back_conv(dx[:, 1:].reshape(grid.shape))
        d_position = dx.sum(0)
        grads = {"conv1": d_conv, "class_embedding": d_position[0]}
        grads["positional_embedding"] = d_position
        return dimages.transpose(0, 3, 1, 2), grads

    return x, backward
    ### END SOLUTION


grade(picture_tokens)

# %% [markdown] tags=["slide"]
# ## 5. A text is read where it ends
#
# A text encoder is causal: each token sees what came before it, and nothing behind. So only one token has seen the whole text, the end token, and there the text is read. What stands behind it fills the row up.
#
# OpenAI's code finds that place with `tokens.argmax(-1)`: in its vocabulary the end token has the largest id.
#
# **Predict.** You train a tokenizer of your own, and give its end token the id 1. Where will `argmax` read? And would you see it in the loss?

# %% [markdown] tags=["answer"]
# At whatever word has the largest id, often a rare one, in the middle of the text; what comes after it is never seen. There is no error, and the loss still goes down, for the features of half a text are worth something. It is a mistake that costs accuracy and says nothing.

# %% [markdown]
# So compare with the id. Some tokenizers fill the row up with the end token itself: then the *first* counts. Going back, what was not read hears nothing.
#
# **Write** it.


# %% tags=["exercise"]
@exercise("read_at_end")
def read_at_end(x, tokens, end_token):
    """What stands at the first end token of each row.

    x (N, T, D), tokens (N, T) integers -> y (N, D), backward; backward(dy) -> dx
    """
    ### BEGIN SOLUTION
    rows, end = np.arange(len(x)), (tokens == end_token).argmax(1)

    def backward(dy):
        dx = np.zeros_like(x)
        dx[rows, end] = dy
        return dx

    return x[rows, end], backward
    ### END SOLUTION


grade(read_at_end)

# %% [markdown] tags=["slide"]
# ## 6. Two encoders
#
# Everything is there. Here are both encoders, of your parts. Read them slowly; there is nothing new in them. A picture is read at its class token, a text at its end, and both finish with a norm and a linear layer into the space that they share.


# %%
def picture_encoder(images, p, config):
    heads = config["vision_cfg"]["width"] // config["vision_cfg"]["head_width"]
    act = activation_of(config)
    names = ("conv1", "class_embedding", "positional_embedding")
    x, back_tokens = picture_tokens(images, {name: p[name] for name in names})
    x, back_pre = layer_norm(x, **p["ln_pre"])
    x, back_blocks = transformer(x, p["transformer"], heads, None, act)
    h, back_post = layer_norm(x[:, 0], **p["ln_post"])
    y, back_proj = linear(h, p["proj"].T)

    def backward(dy):
        d, d_proj = back_proj(dy)
        d, d_post = back_post(d)
        dx = np.zeros_like(x)
        dx[:, 0] = d
        dx, d_blocks = back_blocks(dx)
        dx, d_pre = back_pre(dx)
        dimages, grads = back_tokens(dx)
        grads |= {"ln_pre": d_pre, "transformer": d_blocks, "ln_post": d_post}
        return dimages, grads | {"proj": d_proj["weight"].T}

    return y, backward


def text_encoder(p, tokens, config):
    text, length = config["text_cfg"], tokens.shape[1]
    act, end = activation_of(config), text["vocab_size"] - 1
    x, back_embedding = embedding(tokens, p["token_embedding"]["weight"])
    x = x + p["positional_embedding"][:length]
    mask = causal_mask(length, np, x.dtype)
    x, back_blocks = transformer(x, p["transformer"], text["heads"], mask, act)
    x, back_end = read_at_end(x, tokens, end)
    h, back_final = layer_norm(x, **p["ln_final"])
    y, back_proj = linear(h, p["text_projection"].T)

    def backward(dy):
        d, d_proj = back_proj(dy)
        d, d_final = back_final(d)
        dx, d_blocks = back_blocks(back_end(d))
        d_position = np.zeros_like(p["positional_embedding"])
        d_position[:length] = dx.sum(0)
        grads = {"token_embedding": back_embedding(dx), "transformer": d_blocks}
        grads |= {"positional_embedding": d_position, "ln_final": d_final}
        return grads | {"text_projection": d_proj["weight"].T}

    return y, backward


# %% tags=["more", "output"]
_, (params, images, tokens, config), _ = draw_case("whole model (ViT)")
dy = rng.standard_normal((len(images), config["embed_dim"]))
y, back = picture_encoder(images, params["visual"], config)
theirs, their_back = encode_image(params, images, config)
pairs = {"pictures": (y, theirs, back(dy)[1], their_back(dy)["visual"])}
y, back = text_encoder(params, tokens, config)
theirs, their_back = encode_text(params, tokens, config)
pairs["texts"] = y, theirs, back(dy), their_back(dy)

worst = {}
for name, (y, theirs, mine, other) in pairs.items():
    mine, other = flatten(mine), flatten(other)
    gap = max(np.abs(mine[key] - other[key]).max() for key in other)
    worst[name] = max(np.abs(y - theirs).max(), gap)
    print(f"{name}: {len(other)} gradients, {worst[name]:.0e} from the library's")

# %% tags=["numbers"]
assert max(worst.values()) < 1e-10
assert all(flatten(m).keys() == flatten(o).keys() for _, _, m, o in pairs.values())

# %% [markdown]
# They agree to rounding. (The library does one thing more: of the last block it computes only the position that is read, which saves a good part of a small model. The numbers are the same.)
#
# And the other way round: your blocks in the library's place.

# %%
print(put_in(mlp, residual_block))
report = check_layer("whole model (ViT)", method="adjoint")
take_out()
print(report.headline)

# %% tags=["numbers"]
assert report.ok

# %% [markdown] tags=["slide"]
# **Look** at what a text encoder can learn from short texts. We take the model that comes with the library, which reads up to 24 tokens, and four names of emoji. **Predict** for how many of the 24 positions there is a gradient.

# %% tags=["slide"]
model = load("emoji")
names = ["guitar", "red apple", "palm tree", "umbrella with rain drops"]
tokens = model.tokenizer(names, model.config["text_cfg"]["context_length"])
end = model.config["text_cfg"]["vocab_size"] - 1
lengths = (tokens == end).argmax(1) + 1
features, back = encode_text(model.params, tokens, model.config)
grads = back(rng.standard_normal(features.shape).astype(np.float32))
reached = np.abs(grads["positional_embedding"]).max(1) > 0
print("lengths, with start and end:", lengths)
print(f"positions with a gradient: {reached.sum()} of {len(reached)}")

# %% tags=["numbers"]
assert len(reached) == 24 and reached[: lengths.max()].all()
assert reached.sum() == lengths.max() < 12

# %% [markdown] tags=["answer"]
# For as many as the longest text has tokens. A position that no text of the training reaches is never trained: it stays the noise that it was at the beginning, and weight decay shrinks even that. A model that has learned from names is not made for sentences, however long its context is.

# %% [markdown] tags=["slide"]
# ## 7. Looking inside
#
# A backward pass need not end at the parameters. `encode_image` gives the gradient of the *pixels* too, with `input_gradient=True`. It says how the likeness of a picture and a text would change with each pixel. Its length at each pixel, drawn as a picture, is called a *saliency map* (Simonyan et al. 2013), and often read as what the model looks at.
#
# **Predict.** An emoji on a white ground. Does the gradient lie on the thing? And if the picture gets a noise of 2 %, which we hardly see: does the map stay?

# %%
code = {entry["name"]: entry["code"] for entry in emoji_names()}


def drawings(style, things):
    """What one artist made of these things: uint8 (len(things), 64, 64, 4)."""
    pictures, codes = emoji_pictures(style)
    return pictures[[codes.index(code[name]) for name in things]]


def likeness_to(text, pictures):
    """The cosine of each picture with a text, and its gradient at the pixels."""
    pixels = normalize(pictures.astype(np.float32), model.config)
    wanted = model.encode_text([text])[0]
    features, back = encode_image(model.params, pixels, model.config)
    z, back_sphere = l2_normalize(features)
    dz = np.repeat(wanted[None], len(z), 0)
    return z @ wanted, back(back_sphere(dz), input_gradient=True)[0]


things = ["tiger face", "umbrella with rain drops", "palm tree", "guitar"]
seen = drawings("fluent", things)  # an artist whom the model was never trained on
whole, thing = plain(seen, 64), seen[..., 3] > 127
area = thing.mean()
maps, share = {}, {}
for noise in (0, 0.02):
    found = []
    for name, picture in zip(things, whole):
        copies = picture + noise * rng.standard_normal((8, *picture.shape))
        found.append((likeness_to(name, copies)[1] ** 2).sum(1).mean(0))
    squares = np.array(found)
    share[noise] = (squares * thing).sum((1, 2)) / squares.sum((1, 2))
    maps[noise] = np.sqrt(squares)
print(f"{'':26}{'of the picture':>15}{'of gradient²':>14}{'with noise':>12}")
for name, one, *two in zip(things, thing.mean((1, 2)), share[0], share[0.02]):
    print(f"{name:26}{one:15.0%}{two[0]:14.0%}{two[1]:12.0%}")

# %% alt="Four emoji, and two rows of maps below. In the first row the gradient is brightest on parts of the things, along outlines, with a fine chequered pattern. In the second row, with noise, it is bright on the empty ground too: the umbrella, the palm tree and the guitar stand out dark, and on the tiger, which fills most of its picture, most of it stays." tags=["slide", "output"]
figure = Figure(figsize=(9, 6.6), layout="constrained")
axes = figure.subplots(3, 4)
for column, name, picture, *two in zip(axes.T, things, whole, maps[0], maps[0.02]):
    column[0].imshow(picture.transpose(1, 2, 0).clip(0, 1))
    column[0].set_title(name, fontsize=10)
    for ax, strength in zip(column[1:], two):
        top = np.quantile(strength, 0.99)
        ax.imshow(strength, cmap="magma", vmin=0, vmax=top)
    for ax in column:
        ax.set(xticks=[], yticks=[])
for ax, label in zip(axes[:, 0], ("", "gradient", "gradient, with noise")):
    ax.set_ylabel(label)
figure

# %% tags=["numbers"]
over = share[0] / thing.mean((1, 2))
assert 1.3 < over.min() and over.max() < 2.5
assert (share[0.02] < share[0] - 0.1).all()
assert (share[0.02][1:] < thing[1:].mean((1, 2))).all()

# %% [markdown] tags=["answer"]
# On a clean picture, half as much again or twice as much of it lies on the thing as its area would explain. With a noise that we hardly notice, much of it leaves for the empty ground: umbrella, palm tree and guitar have less than their area then. Only the tiger, who fills most of his picture, keeps more. It does not say what the model has looked at. It says **where a change would matter**, and on an empty ground, which in training was always smooth, every speck does. (The fine chequered pattern is an old friend: it comes from the first convolution, whose stride is 2. Some pixels are read four times as often as others, as the table of counts in notebook 5 shows.)

# %% [markdown]
# If it says where a change matters, then let us make that change. We follow the gradient, a small step for each pixel, and let the model find the picture more and more like the text *cat face*. Once we begin with plain grey, and once with the guitar.
#
# **Predict.** Will you see a cat? And will the model find the result as much like a cat as it finds a real drawing of one?


# %%
def climb(text, picture, steps, step):
    """Follow the sign of the gradient at the pixels."""
    for _ in range(steps):
        picture = picture + step * np.sign(likeness_to(text, picture)[1])
        picture = picture.clip(0, 1)
    return picture


guitar = whole[things.index("guitar")][None]
drawn = {"a drawing": plain(drawings("fluent", ["cat face"]), 64)}
drawn["from grey"] = climb("cat face", np.full_like(guitar, 0.5), 20, 0.02)
drawn["from a guitar"] = climb("cat face", guitar, 16, 0.004)
cats = {name: likeness_to("cat face", one)[0][0] for name, one in drawn.items()}
guitars = {name: likeness_to("guitar", one)[0][0] for name, one in drawn.items()}
for name in drawn:
    print(
        f"{name:14} like 'cat face' {cats[name]:.2f}, like 'guitar' {guitars[name]:.2f}"
    )
moved = np.abs(drawn["from a guitar"] - guitar).max()
print(f"no pixel of the guitar was moved by more than {moved:.1%}")

# %% alt="Three pictures: the drawing of a cat's face; grey coloured noise with curves in it, like outlines of nothing; and a guitar that looks like the one before, on a ground with a faint coloured pattern." tags=["slide", "output"]
figure = Figure(figsize=(7.5, 2.8), layout="constrained")
for ax, (name, picture) in zip(figure.subplots(1, 3), drawn.items()):
    ax.imshow(picture[0].transpose(1, 2, 0))
    ax.set(xticks=[], yticks=[])
    ax.set_title(f"{name}: like a cat {cats[name]:.2f}", fontsize=10)
figure

# %% tags=["numbers"]
assert cats["from grey"] > cats["a drawing"] + 0.1
assert cats["from a guitar"] > cats["a drawing"]
assert moved < 0.07

# %% [markdown] tags=["answer"]
# No. In the grey one there are curves, as of outlines, and no cat; on the guitar there is nothing but a faint pattern. And the model finds both *more* like a cat than the drawing. It has learned to tell drawings from one another. Nobody has shown it what is no drawing at all, and there are far more ways to be that than to be a cat. A guitar that is a cat to the model and a guitar to us is called an *adversarial example* (Szegedy et al. 2013). Keep it in mind when a model says that it is sure (notebook 11).

# %% [markdown]
# ## What you know now
#
# **Explain**, in a sentence or two each:
#
# 1. All branches of a deep pre-norm Transformer have the gradient 0 by some mistake. What is the gradient of the token embeddings then, and why does the model not stand still?
# 2. The class vector and the first position always get the same gradient. Could one of the two be left out?
# 3. A colleague reads a text at its last place, not at its end, and fills rows up with zeros. With a causal mask, what does the model read there?

# %% [markdown] tags=["answer"]
# 1. The gradient of the output, handed back whole along the shortcuts. So everything before the blocks, embeddings and positions, and everything behind them still learns.
# 2. Yes. Only their sum is ever used, and training moves both alike (but for weight decay, which may treat them differently). They are there because the class and the positions are two thoughts.
# 3. A token that has seen the whole text, and then a row of padding, whose number depends on the length. It can work: the place sees everything that stands before it. But its features depend on how far the row was filled up, and on the embedding of a token that means nothing.

# %% [markdown]
# ## Going on
#
# - **Recompute.** Let `transformer` keep only the input of each block, and run the block again on the way back. What does it cost, and what does it save? (Chen et al. 2016; the library has an argument for it.)
# - **Two classes.** Some models read the mean of all patches in place of a class token. Write its backward, and say which tokens of the last block hear something then.
# - **A steadier climb.** Average the gradient over shifted and blurred copies of the picture. Does it begin to look like a cat?
