"""What a trained CLIP can do: zero-shot classification, retrieval and search, and the baselines beside them."""

from ..model import class_embeddings, prompt_features
from .calibration import calibration, draw_tasks, fit_calibrated, fit_nothing, fit_scale, reliability
from .index import index_emoji, index_folder
from .linear_probe import linear_probe, probe_loss
from .nearest_pixels import nearest_pixel_baseline, pixel_rows
from .retrieval import cosines, ranks, retrieval, search, top_k
from .zeroshot import NONE, calibrated, classify_or_none, evaluate
