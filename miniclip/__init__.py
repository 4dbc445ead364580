"""miniclip: CLIP written by hand in NumPy and CuPy, every layer with its backward pass."""

from .checkpoints import load, save
from .loss import clip_loss, siglip_loss
from .model import CLIP, encode_image, encode_text

__version__ = "0.1.0"
