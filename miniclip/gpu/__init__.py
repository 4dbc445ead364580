"""What a graphics card does better: fused kernels, products as they lie in memory, 16 bits, batches drawn ahead."""

from .device import full_card, register, to_gpu, usable_cupy
from .mixed_precision import GradScaler, half_encoders
from .nccl import Cards
from .precision import PRECISIONS, compute_dtype, precision
from .prefetch import Prefetch
