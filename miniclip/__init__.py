"""miniclip: CLIP written by hand in NumPy and CuPy, every layer with its backward pass."""

from importlib import import_module

__version__ = "0.1.0"

# What stands here is imported when it is first used, so that the command line's --help waits for no NumPy.
PLACES = {
    "load": "checkpoints", "save": "checkpoints", "clip_loss": "loss", "siglip_loss": "loss", "CLIP": "model",
    "encode_image": "model", "encode_text": "model",
}  # fmt: skip
__all__ = list(PLACES)


def __getattr__(name):
    if name in PLACES:
        globals()[name] = getattr(import_module(f".{PLACES[name]}", __name__), name)
        return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *PLACES})
