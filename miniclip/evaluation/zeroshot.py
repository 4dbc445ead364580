"""What a trained CLIP can do with no training at all: name pictures, rank, retrieve, search.

A picture and a text are unit rows of one space, so everything here is one matrix of cosines:

    cos = Z_I Z_Cᵀ        p(class | picture) = softmax(exp(logit_scale) cos)

(CLIP paper, section 3.1.2). A class is a text: its name, put into a prompt; or into many prompts whose
unit features are averaged and made unit again (section 3.1.4). That ensemble lives in the embedding
space, so it costs nothing once it is made.

A rank is 1 + the number of wrong candidates that score at least as high as the right one: ties count
against the model, so a collapsed encoder, for which all candidates are equal, is never right by luck.
Scores closer than TIE are equal, for a float32 encoder repeats itself only to about that.
"""

import numpy as np

from ..backend import array_module
from ..layers import l2_normalize, softmax
from .linear_probe import finite_rows, linear_probe  # noqa: F401  (this is the probe's front door)

TIE = 1e-6


# ------------------------------------------------------------------------------------------ classes


def class_embeddings(clip, names, templates=("{}",)):
    """Unit rows (K, E), one per name: the unit features of its prompts, averaged and made unit again.

    names: K strings, which may contain braces. templates: strings with exactly one {}, for the name.
    Raises ValueError for no names, no templates, or a template without exactly one {}.
    Source: CLIP paper, section 3.1.4.
    """
    return l2_normalize(prompt_features(clip, names, templates).mean(0))[0]


def prompt_features(clip, names, templates):
    """Unit features (P, K, E) of K names in P templates; raises as class_embeddings."""
    for what, strings in (("names", names), ("templates", templates)):
        if isinstance(strings, str) or not len(strings) or not all(isinstance(s, str) for s in strings):
            raise ValueError(f"{what} must be a list of at least one string, not {str(strings)[:80]!r}.")
    for template in templates:
        if template.count("{}") != 1:
            raise ValueError(f"The template {template[:80]!r} must contain {{}} exactly once, where the name goes.")
    prompts = [template.replace("{}", name) for template in templates for name in names]
    return unit_rows(clip.encode_text(prompts), "The text features").reshape(len(templates), len(names), -1)


def classify(image_features, class_features, logit_scale):
    """Probabilities (N, K) from unit image rows (N, E) and unit class rows (K, E).

    logit_scale is ln(1/τ), as the model learns it.    Source: CLIP paper, section 3.1.2.
    """
    cos = cosines(image_features, class_features, "image_features", "class_features")
    return softmax(float(np.exp(float(logit_scale))) * cos)[0]


def top_k(scores, k=5):
    """The k best of each row of scores (..., K): indices (..., k) and their scores, best first.

    Equal scores keep their order. Where k exceeds K, all K come back.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}.")
    xp = array_module(scores)
    best = xp.argsort(-scores, axis=-1, kind="stable")[..., :k]
    return best, xp.take_along_axis(scores, best, axis=-1)


# ------------------------------------------------------------------------------------------ measures


def ranks(scores, right):
    """Rank (N,) of the best right candidate in each row of scores (N, K); right is (N, K) bool.

    Ties count against it (see the top); other right candidates do not stand in its way.
    """
    xp = array_module(scores)
    best = xp.where(right, scores, -xp.inf).max(1, keepdims=True)
    return 1 + ((scores >= best - TIE) & ~right).sum(1)


def evaluate(clip, evaluation):
    """Zero-shot accuracy on an Evaluation, for the bare name and for the prompt ensemble.

    -> {"name", "n", "choices", "chance", "top1", "top5", "ensemble_top1", "ensemble_top5"}:
    the fractions of n pictures whose right name has rank 1, and rank 5 or better, among all names or,
    where evaluation.candidates (M, c) is given, among each picture's own. chance is 1 / choices.
    Equal names tie, and so count as misses.
    Raises ValueError when answers or candidates do not fit the pictures and the names.
    """
    title, names, count = f"Evaluation {evaluation.name!r}", evaluation.names, len(evaluation.pictures)
    answer = np.asarray(evaluation.answer)
    own = evaluation.candidates is not None
    options = np.asarray(evaluation.candidates) if own else np.broadcast_to(np.arange(len(names)), (count, len(names)))
    if not count or answer.shape != (count,) or options.ndim != 2 or len(options) != count or not options.size:
        raise ValueError(
            f"{title}: {count} pictures, answers {answer.shape} and candidates {options.shape} do not "
            "fit: at least one picture, each with one answer and one row of candidates."
        )
    if options.min() < 0 or options.max() >= len(names):
        raise ValueError(f"{title}: candidates must be indices into its {len(names)} names.")
    right = options == answer[:, None]
    if not right.any(1).all():
        lost = int(right.any(1).argmin())
        raise ValueError(f"{title}: the answer {answer[lost]} of picture {lost} is not among its candidates.")

    result = {"name": evaluation.name, "n": count, "choices": options.shape[1], "chance": 1 / options.shape[1]}
    images = clip.encode_image(evaluation.pictures)
    ensemble = list(evaluation.templates) or ["{}"]
    templates = list(dict.fromkeys(["{}", *ensemble]))  # each prompt is embedded once
    prompts = prompt_features(clip, names, templates)
    for kind, used in (("", ["{}"]), ("ensemble_", ensemble)):
        classes = l2_normalize(prompts[[templates.index(template) for template in used]].mean(0))[0]
        scores = cosines(images, classes, "The image features", "the name features")
        xp = array_module(scores)
        if own:
            scores = xp.take_along_axis(scores, xp.asarray(options), axis=1)
        rank = ranks(scores, xp.asarray(right))
        result |= {f"{kind}top{k}": float((rank <= k).mean()) for k in (1, 5)}
    return result


def retrieval(image_features, text_features, image_of_text=None):
    """Find a picture's text among all texts, and a text's picture among all pictures.

    image_features (N, E), text_features (T, E): unit rows. image_of_text (T,): which image each text
    describes, so that one may have several (Flickr8k has five); None: text i describes image i.
    -> {"image_to_text": {"R@1", "R@5", "R@10", "median_rank"}, "text_to_image": {the same}}
    From a picture, the best of its texts counts and the others are not in its way. A picture that no
    text describes is never asked for, but stands among the candidates.
    Raises ValueError when features are no unit rows, or image_of_text does not fit them.
    """
    images, texts = unit_rows(image_features, "image_features"), unit_rows(text_features, "text_features")
    if image_of_text is None and len(texts) != len(images):
        raise ValueError(
            f"{len(images)} images and {len(texts)} texts are no pairs: say in image_of_text which "
            "image each text describes."
        )
    owner = np.arange(len(texts)) if image_of_text is None else np.asarray(image_of_text)
    if owner.shape != (len(texts),) or owner.dtype.kind not in "iu" or owner.min() < 0 or owner.max() >= len(images):
        raise ValueError(
            f"image_of_text must hold one integer from 0 to {len(images) - 1} for each of the {len(texts)} texts."
        )
    everyone = np.arange(len(images))
    return {
        "image_to_text": _recall(images, texts, np.unique(owner), lambda i: owner == i[:, None]),
        "text_to_image": _recall(texts, images, np.arange(len(texts)), lambda t: owner[t][:, None] == everyone),
    }


def _recall(queries, gallery, asked, is_right, block=256):
    """Recall at 1, 5, 10 and the median rank; in blocks, for the whole matrix may not fit in memory."""
    xp = array_module(queries)
    found = []
    for start in range(0, len(asked), block):
        rows = asked[start : start + block]
        scores = cosines(queries[xp.asarray(rows)], gallery, "The features asked with", "the features searched")
        found.append(ranks(scores, xp.asarray(is_right(rows))))
    found = xp.concatenate(found)
    return {**{f"R@{k}": float((found <= k).mean()) for k in (1, 5, 10)}, "median_rank": float(xp.median(found))}


def search(clip, query, pictures, count=10):
    """The pictures that fit a text best: indices (count,) and cosines (count,), best first.

    query: one string. pictures: their unit features (M, E), or uint8 (M, H, W, 3 or 4), or PIL images.
    """
    if not isinstance(query, str):
        raise ValueError(f"The query must be one string, not {str(query)[:80]!r}.")
    features = pictures if getattr(pictures, "ndim", 0) == 2 else clip.encode_image(pictures)
    scores = cosines(clip.encode_text([query]), features, "The query's features", "the pictures' features")
    return top_k(scores[0], count)


# ------------------------------------------------------------------------------------ what comes in


def unit_rows(x, what):
    """x (N, E), at least float32; ValueError unless its rows are finite and of length 1 (to 1 %)."""
    x = finite_rows(x, what)
    off = abs((x * x).sum(1) - 1) > 0.02
    if bool(off.any()):
        raise ValueError(f"{what} must be rows of length 1, and row {int(off.argmax())} is not: normalise them first.")
    return x


def cosines(a, b, what_a, what_b):
    """a bᵀ (N, K) for unit rows a (N, E) and b (K, E), both checked."""
    a, b = unit_rows(a, what_a), unit_rows(b, what_b)
    if a.shape[1] != b.shape[1]:
        raise ValueError(
            f"{what_a} have width {a.shape[1]} but {what_b} have width {b.shape[1]}: they come from two models."
        )
    return a @ b.T
