"""What a graphics card does better: fused kernels, products as they lie in memory, 16 bits, batches drawn ahead."""

from .matmul import PRECISIONS, compute_dtype, precision
