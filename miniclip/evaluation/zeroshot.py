"""What a trained CLIP can do with no training at all: name a picture, out of any list of names.

A class is a text: its name, put into a prompt; or into many prompts whose unit features are averaged and made unit
again. That ensemble lives in the embedding space, so it costs nothing once it is made.
Source: CLIP paper, sections 3.1.2 and 3.1.4.
"""

import numpy as np

from ..backend import array_module
from ..layers import l2_normalize
from ..model import class_embeddings, prompt_features
from ..tree import to_device
from .calibration import log_probabilities
from .retrieval import cosines, ranks

NONE = "none of these"


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


def classify_or_none(clip, images, names, templates=None):
    """How likely each of K names is for each of N pictures and, last, that none of them is: float32 (N, K + 1).

    Arguments as for `CLIP.classify`. Where p is what `log_probabilities` says of the cosines, and g how likely the
    picture shows nothing at all, a name has (1 - g) p, and "none of these" g + (1 - g) p: they sum to 1.
    Raises ValueError for a model that was not calibrated, and as `CLIP.classify`.
    """
    fitted = calibrated(clip)
    if not fitted:
        raise ValueError(
            "this model was not calibrated, so it cannot say that none fits: python -m miniclip calibrate."
        )
    classes = class_embeddings(clip, names, ["{}"] if templates is None else templates)
    features, classes = (to_device(rows, "cpu").astype(float) for rows in (clip.encode_image(images), classes))
    p = np.exp(log_probabilities(features @ classes.T, fitted["scale"], fitted["scale"] * fitted["none"]))
    if "nothing" in fitted:
        score = features @ np.array(fitted["nothing"]["weight"]) + fitted["nothing"]["bias"]
        something = 0.5 - 0.5 * np.tanh(score / 2)
        p *= something[:, None]
        p[:, -1] += 1 - something
    return p.astype(np.float32)


def calibrated(clip):
    """What a model's `about` says of "classify", {"scale", "none"} and perhaps "nothing"; None where it says nothing.

    Raises ValueError where these are no numbers that can be used.
    """
    fitted = clip.about.get("classify")
    if fitted is None:
        return None
    numbers = [fitted.get("scale"), fitted.get("none")] if isinstance(fitted, dict) else [None]
    if numbers != [None] and "nothing" in fitted:
        nothing = fitted["nothing"] if isinstance(fitted["nothing"], dict) else {}
        weight = nothing.get("weight") if isinstance(nothing.get("weight"), list) else []
        numbers += [nothing.get("bias"), *weight, *([None] * (len(weight) != clip.config["embed_dim"]))]
    good = all(type(number) in (int, float) and abs(number) < 1e6 for number in numbers)
    if not good or not 0 < fitted["scale"]:
        raise ValueError("what this model says of its calibration are no numbers that can be used: calibrate it again.")
    return fitted
