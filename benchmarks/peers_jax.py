"""The same CLIP in JAX, as its users write it for speed: what benchmarks/cpu.py measures against.

One jitted function for the whole step, with value_and_grad, AdamW and donated buffers; pictures are
channels-last, and kernels (h, w, in, out), as XLA has them on the processor. Names are OpenAI's.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def linear(x, p, name):
    return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]


def norm(x, p, name):
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) * lax.rsqrt(variance + 1e-5) * p[f"{name}.weight"] + p[f"{name}.bias"]


def transformer(x, p, prefix, layers, heads, causal):
    n, t, width = x.shape
    for i in range(layers):
        block = f"{prefix}.resblocks.{i}."
        qkv = norm(x, p, block + "ln_1") @ p[block + "attn.in_proj_weight"].T + p[block + "attn.in_proj_bias"]
        q, k, v = jnp.moveaxis(qkv.reshape(n, t, 3, heads, width // heads), 2, 0)
        h = jax.nn.dot_product_attention(q, k, v, is_causal=causal).reshape(n, t, width)
        x = x + linear(h, p, block + "attn.out_proj")
        h = linear(norm(x, p, block + "ln_2"), p, block + "mlp.c_fc")
        x = x + linear(h * jax.nn.sigmoid(1.702 * h), p, block + "mlp.c_proj")
    return x


def encode_text(p, tokens, config):
    text = config["text_cfg"]
    x = p["token_embedding.weight"][tokens] + p["positional_embedding"][: tokens.shape[1]]
    x = transformer(x, p, "transformer", text["layers"], text["heads"], True)
    end = (tokens == text["vocab_size"] - 1).argmax(-1)
    return norm(x[jnp.arange(len(x)), end], p, "ln_final") @ p["text_projection"]


def conv2d(x, weight, stride=1, padding=0):
    return lax.conv_general_dilated(
        x, weight, (stride, stride), [(padding, padding)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def vision_transformer(p, images, config):
    vision = config["vision_cfg"]
    x = conv2d(images, p["visual.conv1.weight"], vision["patch_size"])
    x = x.reshape(len(x), -1, vision["width"])
    cls = jnp.broadcast_to(p["visual.class_embedding"], (len(x), 1, vision["width"]))
    x = norm(jnp.concatenate([cls, x], 1) + p["visual.positional_embedding"], p, "visual.ln_pre")
    heads = vision["width"] // vision.get("head_width", 64)
    x = transformer(x, p, "visual.transformer", vision["layers"], heads, causal=False)
    return norm(x[:, 0], p, "visual.ln_post") @ p["visual.proj"]


def average_pool(x, size):
    return (
        x
        if size == 1
        else lax.reduce_window(x, 0.0, lax.add, (1, size, size, 1), (1, size, size, 1), "VALID") / size**2
    )


def modified_resnet(p, images, config, training):
    """Features, and what the running averages become."""
    vision, x, averages = config["vision_cfg"], images, {}

    def conv_norm(x, conv, bn, stride=1, padding=0):
        h = conv2d(x, p[f"{conv}.weight"], stride, padding)
        mean, variance = p[f"{bn}.running_mean"], p[f"{bn}.running_var"]
        if training:
            count = h.size // h.shape[-1]
            batch_mean = h.mean((0, 1, 2))
            batch_variance = ((h - batch_mean) ** 2).mean((0, 1, 2))
            averages[f"{bn}.running_mean"] = 0.9 * mean + 0.1 * batch_mean
            averages[f"{bn}.running_var"] = 0.9 * variance + 0.1 * batch_variance * (count / max(count - 1, 1))
            mean, variance = batch_mean, batch_variance
        return (h - mean) * (lax.rsqrt(variance + 1e-5) * p[f"{bn}.weight"]) + p[f"{bn}.bias"]

    for i, stride in ((1, 2), (2, 1), (3, 1)):
        x = jax.nn.relu(conv_norm(x, f"visual.conv{i}", f"visual.bn{i}", stride, 1))
    x = average_pool(x, 2)
    for stage, blocks in enumerate(vision["layers"], 1):
        for i in range(blocks):
            name = f"visual.layer{stage}.{i}."
            stride = 2 if stage > 1 and i == 0 else 1
            h = jax.nn.relu(conv_norm(x, name + "conv1", name + "bn1"))
            h = jax.nn.relu(conv_norm(h, name + "conv2", name + "bn2", padding=1))
            h = conv_norm(average_pool(h, stride), name + "conv3", name + "bn3")
            if i == 0:
                x = conv_norm(average_pool(x, stride), name + "downsample.0", name + "downsample.1")
            x = jax.nn.relu(x + h)
    return attention_pool(p, x, vision["width"] * 32 // vision.get("head_width", 64)), averages


def attention_pool(p, x, heads):
    n, width = len(x), x.shape[-1]
    x = x.reshape(n, -1, width)
    x = jnp.concatenate([x.mean(1, keepdims=True), x], 1) + p["visual.attnpool.positional_embedding"]

    def heads_of(name, tokens):
        return linear(tokens, p, f"visual.attnpool.{name}").reshape(n, -1, heads, width // heads)

    h = jax.nn.dot_product_attention(heads_of("q_proj", x[:, :1]), heads_of("k_proj", x), heads_of("v_proj", x))
    return linear(h.reshape(n, width), p, "visual.attnpool.c_proj")


def embed(p, images, tokens, config, training):
    """Unit embeddings of pictures (N, H, W, 3) and of texts, and the running averages that follow."""
    averages = {}
    if isinstance(config["vision_cfg"]["layers"], (list, tuple)):
        z_image, averages = modified_resnet(p, images, config, training)
    else:
        z_image = vision_transformer(p, images, config)
    z_text = encode_text(p, tokens, config)
    return [z / jnp.sqrt((z * z).sum(-1, keepdims=True) + 1e-24) for z in (z_image, z_text)], averages


def clip_loss(learned, averages, images, tokens, config):
    (z_image, z_text), averages = embed(learned | averages, images, tokens, config, True)
    logits = jnp.exp(learned["logit_scale"]) * z_image @ z_text.T
    true = jnp.arange(len(logits))
    rows, columns = (jax.nn.log_softmax(logits, axis)[true, true].mean() for axis in (1, 0))
    return -(rows + columns) / 2, averages


class Jax:
    """One training state. params: {dotted name: array}; images (N, 3, S, S), tokens (N, T): arrays."""

    def __init__(self, params, images, tokens, config, settings):
        # Converted once, before anything is timed.
        params = {
            name: jnp.array(array.transpose(2, 3, 1, 0) if array.ndim == 4 else array) for name, array in params.items()
        }
        self.averages = {name: leaf for name, leaf in params.items() if "running_" in name}
        self.learned = {name: leaf for name, leaf in params.items() if "running_" not in name}
        self.m, self.v = (jax.tree.map(jnp.zeros_like, self.learned) for _ in range(2))
        self.count = jnp.float32(0)
        self.images, self.tokens = jnp.array(images.transpose(0, 2, 3, 1)), jnp.array(tokens.astype(np.int32))
        (beta1, beta2), rate = settings["betas"], settings["learning_rate"]
        self.gradient = jax.jit(jax.value_and_grad(partial(clip_loss, config=config), has_aux=True))
        self.embed = jax.jit(lambda p, images, tokens: embed(p, images, tokens, config, False)[0])

        @partial(jax.jit, donate_argnums=(0, 1, 2, 3, 4))
        def update(learned, averages, m, v, count, images, tokens):
            (loss, averages), g = jax.value_and_grad(clip_loss, has_aux=True)(learned, averages, images, tokens, config)
            count += 1
            m = jax.tree.map(lambda m, g: beta1 * m + (1 - beta1) * g, m, g)
            v = jax.tree.map(lambda v, g: beta2 * v + (1 - beta2) * g * g, v, g)

            def moved(theta, m, v):
                decay = rate * settings["weight_decay"] if theta.ndim > 1 else 0.0
                scale = jnp.sqrt(v / (1 - beta2**count)) + settings["epsilon"]
                return theta * (1 - decay) - rate / (1 - beta1**count) * m / scale

            learned = jax.tree.map(moved, learned, m, v)
            learned["logit_scale"] = jnp.minimum(learned["logit_scale"], math.log(100))
            return learned, averages, m, v, count, loss

        self.update = update

    def loss_and_gradient(self):
        """The loss and {name: gradient}, without a step."""
        (loss, _), gradient = self.gradient(self.learned, self.averages, self.images, self.tokens)
        return float(loss), {
            name: np.asarray(leaf.transpose(3, 2, 0, 1) if leaf.ndim == 4 else leaf) for name, leaf in gradient.items()
        }

    def step(self):
        """One training step: the loss, its gradient, AdamW, and the temperature's bound."""
        *state, loss = self.update(self.learned, self.averages, self.m, self.v, self.count, self.images, self.tokens)
        self.learned, self.averages, self.m, self.v, self.count = state
        return float(jax.block_until_ready(loss))

    def encode(self):
        """Both embeddings."""
        return jax.block_until_ready(self.embed(self.learned | self.averages, self.images, self.tokens))


def about():
    """Versions, for the report."""
    return f"JAX {jax.__version__}"
