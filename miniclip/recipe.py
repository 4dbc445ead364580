"""Recipes: everything that decides a training run except the data's pixels and the number of threads."""

from dataclasses import asdict, dataclass, fields, replace

from .model import MODELS


@dataclass(frozen=True)
class Recipe:
    """One training run. The same recipe, data and seed give the same bits on any number of threads."""

    model: str = "resnet-small"          # a name in model.MODELS
    steps: int = 600
    batch: int = 256                     # pairs a step, no two of one concept
    shard: int = 32                      # pairs embedded together; norms take their statistics from one shard
    learning_rate: float = 2e-3          # at its peak
    warmup: int = 50                     # steps until then
    weight_decay: float = 0.2
    beta1: float = 0.9
    beta2: float = 0.98
    epsilon: float = 1e-6
    clip: float = 1.0                    # largest norm of the gradient
    average: float = 0.99                # memory of the moving average of parameters that is evaluated and kept
    strength: float = 1.0                # of the augmentation; 0 is none
    mix: float = 0.0                     # share of pictures mixed out of two artists' drawings of one thing
    plain_names: float = 0.5             # share of captions that are the bare name
    vocabulary: int = 1536               # tokens learned from the captions
    context: int = 24                    # tokens a text may have
    evaluate_every: int = 0              # steps; 0 is only at the end
    checkpoint_every: int = 50           # steps
    log_every: int = 10                  # steps
    recompute: bool = False              # forget activations and run shards again: less memory, a third more time
    seed: int = 0

    def __post_init__(self):
        for name in ("steps", "batch", "shard", "checkpoint_every", "log_every", "context"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        for name in ("learning_rate", "clip", "epsilon"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be more than 0.")
        if self.model not in MODELS:
            raise ValueError(f"there is no model {self.model!r}; choose one of {', '.join(MODELS)}.")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; it must be 0 or more.")

    def to_json(self):
        """A dict that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_json(cls, description):
        """The recipe that `to_json` described. Raises ValueError for anything else."""
        known = {field.name for field in fields(cls)}
        if not isinstance(description, dict) or set(description) != known:
            raise ValueError("the saved recipe is not one of this version of miniclip.")
        return cls(**description)


PRESETS = {
    "default": Recipe(),
    "full": Recipe(model="resnet", steps=6000, batch=512, average=0.999, checkpoint_every=100),
    "shapes": Recipe(model="resnet-tiny", steps=200, batch=64, shard=32, strength=0.0, vocabulary=700),
    "vit": Recipe(model="vit-tiny"),
}


def preset(name, **changes):
    """One of `PRESETS` with some fields changed; None leaves a field as it is. Raises ValueError."""
    if name not in PRESETS:
        raise ValueError(f"there is no preset {name!r}; choose one of {', '.join(PRESETS)}.")
    return replace(PRESETS[name], **{key: value for key, value in changes.items() if value is not None})
