"""The command `python -m miniclip calibrate`: how sure may a model be, and when does no name fit?"""

import json
import math

from .asking import LOADING, WHICH, load_model
from .evaluate import compare, seed_of
from .train import USUAL_SIZE

EXAMS = "fluent", "game-icons"  # styles to which nothing is fitted: a test holds them against the catalogue
BLANKS = 600  # pictures of nothing
CALIBRATE = (
    ("checkpoint", {}, WHICH.partition(" (default")[0]),
    ("--data", {}, "a folder of pictures, as for train, of which those are taken that training left out"),
    ("--style", {}, "the emoji of a style that the model was not trained on, such as openclipart"),
    ("--with", {"dest": "twin", "metavar": "CHECKPOINT"}, "fit with another model, of the same recipe, that was not "
     "trained on these pictures; the model itself may have been. Of the scale, the factor by which the other's learned "
     "one has to change is taken"),
    ("--scale", {"type": float}, "keep to this scale, such as one that was fitted on other pictures, and fit the rest"),
    ("--test", {"metavar": "STYLE"}, "emoji: say how well it fits another style too, which it is not fitted to"),
    ("--out", {"metavar": "FILE"}, "write a new file, and leave the checkpoint as it is"),
    ("--json", {"action": "store_true"}, "print JSON"),
    *LOADING,
)  # fmt: skip


def run_calibrate(options):
    """calibrate: fit the scale, the cosine of what is not named, and what tells noise; write them to the checkpoint."""
    from ..checkpoints import amend, save
    from ..evaluation import draw_tasks, fit_calibrated, fit_nothing, fit_scale, reliability
    from ..tree import to_device

    data = options.data or "emoji"
    if data == "emoji" and not options.style:
        raise ValueError("say on which pictures: --style, of the emoji, or --data with a folder of pictures.")
    if options.style in EXAMS:
        raise ValueError(
            f"the style {options.style} is an exam, and nothing is fitted to it; --test asks how well it does."
        )
    if options.scale is not None and not 0 < options.scale < math.inf:
        raise ValueError(f"--scale is {options.scale}; it must be more than 0, and finite.")
    if options.checkpoint == "emoji" and not options.out:
        raise ValueError("emoji is the model that ships, which stays as it is: say with --out where to write.")
    clip = load_model(options.checkpoint, options)
    judge = load_model(options.twin, options) if options.twin else clip
    if not options.out:
        amend(options.checkpoint, {})  # so that what cannot be written to is refused before the work

    pictures, cosines, answer = questions(judge, data, options.style)
    tasks = draw_tasks(cosines, answer)
    if options.scale:
        scale, none = fit_scale(tasks, scale=options.scale)
    else:
        scale, none = fit_calibrated(tasks)
        # The scale that is learned grows as training goes on. Of a twin that was trained for less, the factor is right.
        scale *= math.exp(clip.params["logit_scale"] - judge.params["logit_scale"])
    blanks = pictures_of_nothing(BLANKS, clip.config["vision_cfg"]["image_size"])
    some, nothing = (to_device(clip.encode_image(these), "cpu") for these in (pictures, blanks))
    fitted_on = {"data": options.style or data, "pictures": len(answer), "names": cosines.shape[1]}
    fitted_on |= {"with": options.twin} if options.twin else {}
    notes = {"scale": scale, "none": none, "nothing": fit_nothing(some, nothing), "fitted_on": fitted_on}
    asked = {fitted_on["data"]: reliability(tasks, scale, none)}
    if options.test:
        tested = draw_tasks(*questions(clip, "emoji", options.test, exam=True)[1:])
        asked[f"{options.test} (not fitted to)"] = reliability(tested, scale, none)

    if options.out:
        clip.about["classify"] = notes
        save(clip, options.out)
    path = options.out or amend(options.checkpoint, {"classify": notes})
    if options.json:
        print(json.dumps({"checkpoint": str(path), "classify": notes, "asked": asked}, indent=2))
        return
    trained = math.exp(clip.params["logit_scale"])
    print(f"The scale of probabilities is {scale:.2f} (trained: {trained:.2f}); none of these, a cosine of {none:.3f}.")
    print(f"{'':32} half of them without a right name   all with one, and known to be")
    print(f"{'pictures':24} {'names':>7} {'right':>13} {'sure':>8} {'ECE':>8} {'right':>13} {'sure':>8} {'ECE':>8}")
    for name, rows in asked.items():
        for row in rows:
            numbers = [row[kind + key] for kind in ("", "named_") for key in ("accuracy", "confidence", "ece")]
            cells = [f"{number:{13 if n % 3 == 0 else 8}.3f}" for n, number in enumerate(numbers)]
            print(f"{name:24} {row['names']:7} {' '.join(cells)}")
    print(f"Written to {path}.")


def questions(clip, source, style, exam=False):
    """Pictures that a model was not trained on, their cosines (N, V) with all names, and which is right (N,).

    The names of the pictures' things stand among those of all things, where things have names. exam: whether nobody
    minds that these pictures are not those of its training. Raises ValueError where nothing was left out of training.
    """
    from ..data import load_data
    from ..tree import to_device

    side, seed = clip.config["vision_cfg"]["image_size"], seed_of(clip.about)
    data, evaluations = load_data(source, side if side > USUAL_SIZE else None, seed=seed, hold_out_style=style)
    if not exam:
        compare(clip.about, source, data, given=True)
    if not evaluations:
        raise ValueError(
            f"{source} has too few pictures for some to be kept from training, so there is nothing to fit."
        )
    pictures, answer = evaluations[0].pictures, evaluations[0].answer
    names = list(dict.fromkeys([*evaluations[0].names, *(texts[0] for texts in data.captions if data.named)]))
    cosines = to_device(clip.encode_image(pictures) @ clip.encode_text(names).T, "cpu")
    return pictures, cosines.astype(float), answer


def pictures_of_nothing(count, size, seed=0):
    """Noise, coarse and fine, loud and faint, coloured and grey, and pictures of one colour: uint8 (count, S, S, 3)."""
    import numpy as np
    from PIL import Image, ImageFilter

    rng, found = np.random.default_rng(seed), []
    for n in range(count):
        noise = (
            rng.random((size, size, 3))
            if n % 2
            else np.clip(rng.normal(0.5, rng.uniform(0, 0.4), (size, size, 3)), 0, 1)
        )
        if n % 4 == 3:
            noise = noise[..., :1]
        pixels = np.broadcast_to(255 * noise, (size, size, 3)).astype(np.uint8)
        if n % 5:
            pixels = np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(size / 2 ** rng.uniform(2, 7))))
        if n % 3 == 0:  # as bright and as dark as can be
            low, high = pixels.min(), pixels.max()
            pixels = np.uint8((pixels - low) * (255 / max(1, high - low)))
        if n % 6 == 1:
            pixels = np.broadcast_to(rng.choice([0, 255, int(rng.integers(256))], 3), pixels.shape)
        found.append(pixels.astype(np.uint8))
    return np.stack(found)
