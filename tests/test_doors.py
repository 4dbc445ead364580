"""Public functions called with whatever people hand over: an answer in finite numbers, or a refusal in our words."""

import inspect
import linecache
import traceback
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_tokenizer import CAPTIONS

import miniclip
from miniclip import CLIP, evaluation
from miniclip.attention import attend_heads, causal_mask
from miniclip.gradcheck import CASES, draw_case
from miniclip.gradcheck.random_inputs import VIT, RandomInputs
from miniclip.layers import l2_normalize
from miniclip.optim import AdamW, learning_rate
from miniclip.preprocess import CLIP_PREPROCESS, as_pil, normalize, preprocess, resize_and_crop, squash
from miniclip.text_encoder import end_of_text
from miniclip.tokenizer import Tokenizer
from miniclip.train_step import loss_and_gradient
from miniclip.tree import Flat, flatten, tree_map

CALLS = 2500
PACKAGE = str(Path(miniclip.__file__).parent)
CONFIG = VIT | {"preprocess": CLIP_PREPROCESS}
LAYERS = [name for name in CASES if "tiled" not in name and "step" not in name]


def users_doors(r):
    """{name: (function, arguments)} of what looks at values, too, at a random point."""
    unit, scores, pictures = (
        l2_normalize(r.normal(5, 6))[0],
        r.normal(4, 5),
        r.rng.integers(0, 256, (3, 9, 9, 3), np.uint8),
    )
    tokenizer = Tokenizer.train(CAPTIONS, 550)
    config = CONFIG | {"text_cfg": CONFIG["text_cfg"] | {"vocab_size": tokenizer.vocab_size}}
    clip = CLIP(tree_map(lambda a: a.astype(np.float32), r.parameters(config)), config, tokenizer)
    text = ["red", "blue"]
    model, images, tokens = Flat(r.parameters(CONFIG)), r.images(2, CONFIG), r.tokens(2)
    params = Flat(r.dense(3, 4) | {"logit_scale": np.array(1.0)})
    return {
        "ranks": (evaluation.ranks, scores, r.rng.random((4, 5)) < 0.5),
        "top_k": (evaluation.top_k, scores, 3),
        "cosines": (evaluation.cosines, unit, unit[:2], "these", "those"),
        "retrieval": (evaluation.retrieval, unit, unit[[0, 1, 2, 3, 4, 4]], [0, 1, 2, 3, 4, 4]),
        "linear_probe": (evaluation.linear_probe, r.normal(8, 3), [0, 1] * 4, r.normal(4, 3), np.arange(4) % 2, 0.1),
        "pixel_rows": (evaluation.pixel_rows, pictures, 4),
        "class_embeddings": (evaluation.class_embeddings, clip, text, ["{}s"]),
        "search": (evaluation.search, clip, "red", pictures, 2),
        "CLIP.encode_image": (clip.encode_image, pictures, 2),
        "CLIP.encode_text": (clip.encode_text, text, 2),
        "CLIP.classify": (clip.classify, pictures, text, ["{}", "{}s"]),
        "encode_image": (miniclip.encode_image, clip.params, preprocess(pictures, config), config),
        "encode_text": (miniclip.encode_text, clip.params, tokenizer(text, 6), config),
        "preprocess": (preprocess, list(pictures), config),
        "normalize": (normalize, r.rng.random((2, 3, 8, 8)), config),
        "as_pil": (as_pil, pictures[0]),
        "resize_and_crop": (resize_and_crop, Image.fromarray(pictures[0]), 5),
        "squash": (squash, Image.fromarray(pictures[0]), 5),
        "tokenizer": (tokenizer, text, 6),
        "tokenizer.encode": (tokenizer.encode, "blue"),
        "tokenizer.decode": (tokenizer.decode, [5, 6]),
        "Tokenizer": (Tokenizer, tokenizer.merges),
        "Tokenizer.train": (Tokenizer.train, CAPTIONS, 520),
        "end_of_text": (end_of_text, tokenizer(text, 6), tokenizer.end_token),
        "learning_rate": (learning_rate, 3, 10, 0.1, 5),
        "loss_and_gradient": (
            loss_and_gradient,
            model.tree,
            [(images, tokens)] * 2,
            CONFIG,
            model.like(model.vector * 1),
        ),
        "AdamW": (AdamW, params, 0.9, 0.98, 1e-6, 0.2, 1.0, 0.5),
        "AdamW.step": (AdamW(params).step, params.like(r.normal(params.vector.size)), 0.1),
        "attend_heads": (attend_heads, r.normal(2, 3, 12), 2, causal_mask(3, np, float)),
    }


def odd(value, rng):
    """Something else than this argument, of the kinds that people hand over by mistake."""
    strange = [None, "fox", b"fox", 3, -1, 0, 2.5, True, np.nan, np.inf, [], {}, [[1, 2], [3]], object(), np.float64(1)]
    strange += [
        np.array(2.0),
        np.zeros(0),
        np.zeros((0, 3)),
        np.array(["a", "b"]),
        np.array([None, 1]),
        np.ones(3, "M8[D]"),
    ]
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub" and rng.random() < 0.85:
        spot = np.zeros(value.shape, bool)
        spot.flat[rng.integers(value.size)] = True
        strange = [
            value.astype(t) for t in (np.uint8, np.int8, np.uint64, bool, object, str, np.float16, np.float32, complex)
        ]
        strange += [value[None], value[..., None], value.T, value.tolist(), np.ma.array(value)]
        strange += [np.concatenate([value, value]), value[..., :1], value[:0]] if value.ndim else []
        strange += [np.matrix(value)] if value.ndim == 2 else []
        if value.dtype.kind == "f":
            strange += [np.where(spot, bad, value) for bad in (np.nan, np.inf, -np.inf, 1e30)]
            strange += [value * factor for factor in (1e30, 1e-30, 1e-300, 0, 255)] + [np.full(value.shape, np.nan)]
    elif isinstance(value, dict) and value and rng.random() < 0.85:
        key = list(value)[rng.integers(len(value))]
        return (
            {k: v for k, v in value.items() if k != key} if rng.random() < 0.2 else value | {key: odd(value[key], rng)}
        )
    elif isinstance(value, list) and value and rng.random() < 0.7:
        i = rng.integers(len(value))
        return [*value[:i], odd(value[i], rng), *value[i + 1 :]]
    return strange[rng.integers(len(strange))]


def wild(value):
    """Whether a number in it is not finite, or so large or small that what follows may overflow."""
    for leaf in flatten(value).values():
        if isinstance(leaf, (float, np.floating, np.ndarray)) and np.asarray(leaf).dtype.kind in "fc":
            size = np.abs(np.asarray(leaf, complex))
            if not (size < 1e15).all() or ((0 < size) & (size < 1e-15)).any() or np.asarray(leaf).itemsize == 2:
                return True
    return False


def not_finite(result):
    """Whether numbers came out that are not finite."""
    leaves = flatten(list(result) if isinstance(result, tuple) else result).values()
    arrays = [np.asarray(leaf) for leaf in leaves if isinstance(leaf, (float, np.generic, np.ndarray))]
    return any(not np.isfinite(a).all() for a in arrays if a.dtype.kind in "fc")


def in_our_words(error):
    """Whether a line of the package raised it: not NumPy, nor Python."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    ours = last.filename.startswith(PACKAGE) and linecache.getline(last.filename, last.lineno).strip().startswith(
        "raise"
    )
    return ours and isinstance(error, ValueError)


def fault_of(f, args, values):
    """What is wrong with this call, or None. values: whether the function promises to look at numbers."""
    calm = values or not wild(args)
    try:
        result = f(*args)
    except Exception as error:
        return None if in_our_words(error) else f"{type(error).__name__}: {error}"
    if isinstance(result, tuple) and len(result) == 2 and callable(result[1]):
        y, backward = result
        if calm and not_finite(y):
            return "an output that is not finite"
        names = list(inspect.signature(f).parameters)
        takes_dy = inspect.signature(backward).parameters
        try:
            gradients = backward(np.ones_like(y)) if takes_dy else backward()
        except Exception as error:
            return None if in_our_words(error) else f"backward: {type(error).__name__}: {error}"
        grads = gradients if isinstance(gradients, dict) else gradients[-1] if isinstance(gradients, tuple) else None
        given = dict(zip(names, args))
        given = flatten(given) | flatten(given.get("p", {}) if isinstance(given.get("p"), dict) else {})
        for name, gradient in flatten(grads).items() if isinstance(grads, dict) else ():
            if name in given and np.shape(given[name]) != gradient.shape:
                return f"a gradient of {name} of another shape"
        if takes_dy:
            try:
                backward(np.ones((*np.shape(y), 2)))
                return "backward took a cotangent of another shape"
            except Exception as error:
                return None if in_our_words(error) else f"backward: {type(error).__name__}: {error}"
    elif calm and not_finite(result):
        return "a result that is not finite"
    return None


def faults(calls, seed):
    """Of so many random calls, those that end otherwise than they should: {description: the call}."""
    rng, found, users = np.random.default_rng(seed), [], {}
    for i in range(calls):
        if i % 50 == 0:
            users = users_doors(RandomInputs([seed, i]))
        if rng.random() < 0.5:
            name = LAYERS[rng.integers(len(LAYERS))]
            f, args, _ = draw_case(name, seed=i)
        else:
            name = list(users)[rng.integers(len(users))]
            f, *args = users[name]
        changeable = [n for n, a in enumerate(args) if not (callable(a) or inspect.ismodule(a) or isinstance(a, CLIP))]
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            for n in rng.permutation(changeable)[: rng.integers(0, 4)]:
                args = [*args[:n], odd(args[n], rng), *args[n + 1 :]]
            fault = fault_of(
                f, args, name in users and name not in ("encode_text", "attend_heads", "loss_and_gradient")
            )
        if fault:
            found.append(f"{i}: {name}({', '.join(f'{a!r:.60}' for a in args)}): {fault}".replace("\n", " "))
    return found


@pytest.mark.slow
def test_random_calls_are_answered_or_refused_in_our_words():
    found = faults(CALLS, seed=0)
    assert not found, f"{len(found)} of {CALLS} calls:\n" + "\n".join(found[:20])
