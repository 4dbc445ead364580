"""The emulator of CUDA: what it refuses because a card refuses it or leaves it undefined, and its shuffles."""

import numpy as np
import pytest
from cuda_on_cpu import CudaError, compile_cuda, compiler

pytestmark = [
    pytest.mark.double,
    pytest.mark.slow,
    pytest.mark.skipif(compiler() is None, reason="running CUDA kernels on the processor needs g++."),
]

CODE = """
template <class T> __global__ void copy(const T *x, T *y, int n, float scale)
{ for (int i = threadIdx.x; i < n; i += blockDim.x) y[i] = x[i] * scale; }
__global__ void some_wait(float *y) { if (threadIdx.x < 16) __syncthreads(); y[threadIdx.x] = 1; }
__global__ void some_shuffle(float *y) { if (threadIdx.x < 16) y[threadIdx.x] = __shfl_xor_sync(~0u, 1.0f, 1); }
__global__ void shuffles(int *y)
{
    const int lane = threadIdx.x;
    y[lane] = __shfl_sync(~0u, lane, 5);
    y[lane + 32] = __shfl_down_sync(~0u, lane, 30);
    y[lane + 64] = __shfl_xor_sync(~0u, lane, 16);
}
"""


@pytest.fixture
def kernels():
    return compile_cuda(CODE, ["copy<float>", "some_wait", "some_shuffle", "shuffles"])


def test_an_argument_must_be_what_the_kernel_takes(kernels):
    x, n, scale = np.arange(5, dtype=np.float32), np.int32(5), np.float32(2)
    copy, y = kernels.get_function("copy<float>"), np.zeros(5, np.float32)
    copy((1,), (32,), (x, y, n, scale))
    assert np.array_equal(y, 2 * x)
    for wrong in [(x, y, 5, scale), (x, y, n, 2.0), (x.astype(float), y, n, scale), (x, None, n, scale), (x, y, n)]:
        with pytest.raises(CudaError, match="parameter"):
            copy((1,), (32,), wrong)
    for grid, block in [((0,), (32,)), ((1,), (1025,)), ((1,), (32, 64)), ((1, 1 << 16), (32,)), ((1.0,), (32,))]:
        with pytest.raises(CudaError, match="launched|threads"):
            copy(grid, block, (x, y, n, scale))
    with pytest.raises(CudaError, match="name expressions"):
        kernels.get_function("copy<double>")
    with pytest.raises(CudaError, match="refuses this CUDA code"):
        compile_cuda("__global__ void f() { nonsense; }", ["f"])


def test_what_a_card_leaves_undefined_is_refused(kernels):
    y, shuffled, lane = np.zeros(64, np.float32), np.zeros(96, np.int32), np.arange(32)
    for name, block, fault in [
        ("some_wait", 64, "__syncthreads"),
        ("some_shuffle", 32, "lanes"),
        ("some_shuffle", 16, "lanes"),
    ]:
        with pytest.raises(CudaError, match=fault):
            kernels.get_function(name)((1,), (block,), (y,))
    kernels.get_function("shuffles")((1,), (32,), (shuffled,))  # and what is defined goes on as before
    expected = [np.full(32, 5), np.where(lane < 2, lane + 30, lane), lane ^ 16]
    assert np.array_equal(shuffled, np.concatenate(expected))
