"""Recipes: everything that decides a training run except the data's pixels and the number of threads."""

from dataclasses import asdict, dataclass, field, fields, replace

from ..gpu import PRECISIONS
from ..model import MODELS


@dataclass(frozen=True)
class TrainConfig:
    """One training run. The same recipe, data and seed give the same bits on any number of threads."""

    model: str = "resnet-tiny"  # a name in model.MODELS
    steps: int = 600
    batch: int = 256  # pairs a step, no two of one concept
    shard: int = 32  # pairs embedded together; norms take their statistics from one shard
    learning_rate: float = 2e-3  # at its peak
    warmup: int = 50  # steps until then
    weight_decay: float = 0.2
    beta1: float = 0.9
    beta2: float = 0.98
    epsilon: float = 1e-6
    clip: float = 1.0  # largest norm of the gradient
    average: float = 0.99  # memory of the moving average of parameters that is evaluated and kept
    strength: float = 1.0  # of the augmentation; 0 is none
    augmentation: dict = field(default_factory=dict)  # parts of it that differ from data.augment's
    mix: float = 0.0  # share of pictures mixed out of two artists' drawings of one thing
    plain_names: float = 0.5  # share of captions that are the bare name
    by_picture: bool = False  # draw all pictures equally often; else all concepts, however many pictures
    vocabulary: int = 1536  # tokens learned from the captions
    context: int = 24  # tokens a text may have
    evaluate_every: int = 0  # steps; 0 is only at the end
    checkpoint_every: int = 50  # steps
    log_every: int = 10  # steps
    recompute: bool = False  # forget activations and run shards again: less memory, a third more time
    precision: str = "float32"  # of the encoders: float32, tf32, bfloat16 or float16 (see products.py)
    seed: int = 0

    def __post_init__(self):
        for name, least in (
            ("steps", 1),
            ("batch", 2),
            ("shard", 1),
            ("checkpoint_every", 1),
            ("log_every", 1),
            ("context", 3),
        ):  # one pair has nothing to be told from; start, a token, end
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {least}.")
        for name in ("learning_rate", "clip", "epsilon"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be more than 0.")
        if self.model not in MODELS:
            raise ValueError(f"there is no model {self.model!r}; choose one of {', '.join(MODELS)}.")
        if self.precision not in PRECISIONS:
            raise ValueError(f"there is no precision {self.precision!r}; choose one of {', '.join(PRECISIONS)}.")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; it must be 0 or more.")

    def to_json(self):
        """A dict that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_json(cls, description):
        """The recipe that `to_json` described. Raises ValueError for anything else."""
        known = {known.name for known in fields(cls)}
        if not isinstance(description, dict) or set(description) != known:
            raise ValueError("the saved recipe is not one of this version of miniclip.")
        return cls(**description)


# Chosen with a training style held out as the unseen artist.
VARIED = {
    "rotate": 12,
    "scale": 0.2,
    "aspect": 0.1,
    "shear": 0.1,
    "shift": 0.08,
    "bend": 0.03,
    "hue": 10,
    "saturation": 0.3,
    "contrast": 0.2,
    "brightness": 0.08,
    "tint": 0.04,
    "curve": 0.2,
    "grey": 0.05,
    "shade": 0.1,
    "relief": 0.1,
    "lines": 0.03,
    "soften": 0.3,
    "background": 0.05,
    "cutout": 0.1,
}

PRESETS = {
    "default": TrainConfig(
        steps=1150,
        shard=128,
        weight_decay=0.1,
        average=0.98,
        plain_names=1.0,
        augmentation=VARIED | {"background": 0},
        checkpoint_every=100,
    ),
    "full": TrainConfig(
        model="resnet",
        steps=2800,
        batch=512,
        warmup=100,
        average=0.995,
        mix=0.25,
        augmentation=VARIED,
        evaluate_every=400,
        checkpoint_every=100,
    ),
    "shapes": TrainConfig(
        model="resnet-micro",
        steps=1150,
        batch=128,
        shard=64,
        weight_decay=1.0,
        strength=0.0,
        by_picture=True,
        vocabulary=700,
        checkpoint_every=500,
    ),
    "vit": TrainConfig(model="vit-tiny", shard=64, augmentation=VARIED | {"background": 0}),
}


def preset(name, **changes):
    """One of `PRESETS` with some fields changed; None leaves a field as it is. Raises ValueError."""
    if name not in PRESETS:
        raise ValueError(f"there is no preset {name!r}; choose one of {', '.join(PRESETS)}.")
    return replace(PRESETS[name], **{key: value for key, value in changes.items() if value is not None})
