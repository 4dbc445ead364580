"""What a trained CLIP can do with no training at all: name a picture, out of any list of names.

A class is a text: its name, put into a prompt; or into many prompts whose unit features are averaged and made unit
again. That ensemble lives in the embedding space, so it costs nothing once it is made.
Source: CLIP paper, sections 3.1.2 and 3.1.4.
"""

import numpy as np

from ..backend import array_module
from ..layers import l2_normalize
from ..model import prompt_features
from .retrieval import cosines, ranks


def evaluate(clip, evaluation):
    """Zero-shot accuracy on an Evaluation, for the bare name and for the prompt ensemble.

    -> {"name", "n", "choices", "chance", "top1", "top5", "ensemble_top1", "ensemble_top5"}:
    the fractions of n pictures whose right name has rank 1, and rank 5 or better, among all names or,
    where evaluation.candidates (M, c) is given, among each picture's own. chance is 1 / choices.
    Raises ValueError for an evaluation without pictures.
    """
    names, candidates, count = evaluation.names, evaluation.candidates, len(evaluation.pictures)
    if not count:
        raise ValueError(f"Evaluation {evaluation.name!r} must have at least one picture.")
    if candidates is None:
        candidates = np.broadcast_to(np.arange(len(names)), (count, len(names)))
    choices = candidates.shape[1]
    result = {"name": evaluation.name, "n": count, "choices": choices, "chance": 1 / choices}
    images = clip.encode_image(evaluation.pictures)
    ensemble = list(evaluation.templates) or ["{}"]
    templates = list(dict.fromkeys(["{}", *ensemble]))  # each prompt is embedded once
    prompts = prompt_features(clip, names, templates)
    xp = array_module(prompts)
    right = xp.asarray(candidates == evaluation.answer[:, None])
    for kind, used in (("", ["{}"]), ("ensemble_", ensemble)):
        classes = l2_normalize(prompts[[templates.index(template) for template in used]].mean(0))[0]
        scores = cosines(images, classes, "The image features", "the name features")
        rank = ranks(xp.take_along_axis(scores, xp.asarray(candidates), axis=1), right)
        result |= {f"{kind}top{k}": float((rank <= k).mean()) for k in (1, 5)}
    return result
