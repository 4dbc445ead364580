"""Training: what decides a run, the batches that it draws, and the loop."""

from .batches import Batches, fingerprint
from .config import PRESETS, TrainConfig, preset
from .gathered_loss import gathered_clip_loss
from .loop import Phases, keep_freed_memory, train
from .ranks import all_ranks
from .ring_loss import ring_clip_loss
from .run import Run, TrainingDiverged
from .start import kept_start
from .tar_batches import TarBatches
from .tiled_loss import tiled_clip_loss, tiled_contrastive_loss
