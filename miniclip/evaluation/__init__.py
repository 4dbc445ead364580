"""What a trained CLIP can do: zero-shot classification, retrieval, search, and the linear probe beside them."""

from .linear_probe import linear_probe
from .nearest_pixels import nearest_pixel_baseline
from .zeroshot import class_embeddings, classify, cosines, evaluate, ranks, retrieval, search, top_k
