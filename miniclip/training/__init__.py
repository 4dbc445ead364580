"""Training: what decides a run, the batches that it draws, and the loop."""

from .batches import Batches, fingerprint
from .config import PRESETS, TrainConfig, preset
from .loop import Run, TrainingDiverged, train
from .nonfinite import first_nonfinite
from .tiled_loss import tiled_clip_loss, tiled_contrastive_loss
