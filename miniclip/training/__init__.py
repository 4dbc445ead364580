"""Training: what decides a run, the batches that it draws, and the loop."""

from .batches import Batches, fingerprint
from .config import PRESETS, TrainConfig, preset
from .loop import Phases, keep_freed_memory, train
from .run import Run, TrainingDiverged
from .start import kept_start
from .tiled_loss import tiled_clip_loss, tiled_contrastive_loss
