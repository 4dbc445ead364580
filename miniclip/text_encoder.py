"""CLIP's text encoder: a causal Transformer, read where the text ends (Radford et al. 2021, §2.4).

    [start] a red fox [end] 0 0 0   ->   the features at [end], which has seen every token before it

What stands behind the end is padding: nobody looks at it.
"""

from .attention import causal_mask
from .backend import array_module
from .checks import takes
from .last_block import transformer_at
from .layers import embedding, layer_norm, linear
from .transformer import activation_of


@takes("tokens (N, T) int, end_token ≥ 0")
def end_of_text(tokens, end_token):
    """Where the end token first stands in each row -> positions (N,).

    Not argmax: that is right only while the end token has the largest id, as it has in CLIP's own
    vocabulary (see `encode_text` for models that ask for it). Raises ValueError for a row without it.
    """
    is_end = tokens == end_token
    if not bool(is_end.any(-1).all()):
        raise ValueError(
            f"a text has no end token (id {end_token}): tokens come from another tokenizer, "
            "or were cut without putting the end back."
        )
    return is_end.argmax(-1)


@takes(
    "params.token_embedding.weight (V, D), params.positional_embedding (L, D), params.ln_final.{weight,bias} (D), "
    "params.text_projection (D, E), params.transformer tree, tokens (N, T) int, config.text_cfg.vocab_size ≥ 1, "
    "config.text_cfg.heads ≥ 1, config.text_cfg.eos_token_id? ≥ 0, config.quick_gelu flag, recompute flag"
)
def encode_text(params, tokens, config, recompute=False):
    """Features of texts, before normalisation.

    params: a CLIP state dict as a tree; tokens: T at most the context length L; config: the model's. A text ends
    where the id `eos_token_id` first stands (without that key, the vocabulary's last); with `pool_type` "argmax", as
    in CLIP's older copies, at its largest id, whichever that is. Returns features (N, E) and backward;
    backward(dfeatures (N, E)) -> gradients, with the keys that belong to the text encoder. recompute: as in
    `transformer`. Raises ValueError for a text that is too long, without an end token, or with ids that the vocabulary
    does not have. Where the model is on a graphics card, the tokens may stay on the host: there it is known without
    waiting for the card how long the texts are.
    """
    xp = array_module(params["text_projection"])
    text = config["text_cfg"]
    if tokens.shape[1] > len(params["positional_embedding"]):
        raise ValueError(
            f"tokens of shape {tokens.shape} do not fit: they must be (N, T) with T at most the context length "
            f"{len(params['positional_embedding'])}."
        )
    if text.get("pool_type") == "argmax":
        end = tokens.argmax(-1)
    else:
        end = end_of_text(tokens, text.get("eos_token_id", text["vocab_size"] - 1))
    # No position looks ahead, so what stands after the last end token cannot matter: drop it.
    length = int(end.max()) + 1
    x, token_embedding = embedding(tokens[:, :length], params["token_embedding"]["weight"])
    x = x + params["positional_embedding"][:length]
    mask = causal_mask(length, xp, x.real.dtype)
    at = xp.asarray(end)
    h, blocks = transformer_at(x, params["transformer"], text["heads"], at, mask, activation_of(config), recompute)
    h, ln_final = layer_norm(h, **params["ln_final"])
    features, project = linear(h, params["text_projection"].T)

    def backward(dfeatures):
        d, d_projection = project(dfeatures)
        d, d_ln_final = ln_final(d)
        dx, d_transformer = blocks(d)
        d_position = xp.zeros_like(params["positional_embedding"])
        d_position[:length] = dx.sum(0)
        grads = {"positional_embedding": d_position, "text_projection": d_projection["weight"].T}
        return grads | {"transformer": d_transformer, "token_embedding": token_embedding(dx), "ln_final": d_ln_final}

    return features, backward
