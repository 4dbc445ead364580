// What the fused kernels share: numbers, rows and columns. launch.py puts it before each of the other .cu files.
//
// Each kernel is one formula of layers.py, attention.py, loss.py or optim.py, read once and written once. T is
// the type of the numbers in memory: float, double, Half or Bfloat16. A is the type that is computed with: double
// for double, float for the rest. Nothing is included, so that NVRTC needs nothing but these files.
//
// Three shapes of work:
//   a row       one warp (32 lanes) a row, 8 rows a block: block (32, 8), grid (rows / 8)
//   columns     32 columns and a chunk of the rows a block: block (32, 8), grid (columns / 32, chunks)
//   elements    one after another, in strides of the whole grid: block (256), grid at most 65,536
//
// Every sum is taken in one order that depends on the shape alone, and none by atomics: the same numbers
// give the same bits.

// ---------------------------------------------------------------------------------------- numbers

struct Half { unsigned short bits; };       // IEEE: 1 sign, 5 exponent, 10 mantissa
struct Bfloat16 { unsigned short bits; };   // the upper half of a float: 1 sign, 8 exponent, 7 mantissa

template <class T> struct Sum { typedef float type; };
template <> struct Sum<double> { typedef double type; };

__device__ inline float wide(float x) { return x; }
__device__ inline double wide(double x) { return x; }
__device__ inline float wide(Bfloat16 x) { return __uint_as_float((unsigned)x.bits << 16); }

template <class T> __device__ inline T narrow(typename Sum<T>::type x) { return x; }

// To the nearest, ties to even: add just under a half, or a half where the last bit kept is odd.
template <> __device__ inline Bfloat16 narrow<Bfloat16>(float x)
{
    const unsigned bits = __float_as_uint(x);
    const unsigned nearest = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    const unsigned quiet_nan = bits >> 16 | 0x40;       // rounding could carry a NaN over to infinity
    return Bfloat16{(unsigned short)(x == x ? nearest : quiet_nan)};
}

#ifdef __CUDA_ARCH__
__device__ inline float half_to_float(unsigned short bits)
{
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
    return x;
}

__device__ inline unsigned short float_to_half(float x)
{
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
}
#endif                                      // elsewhere: tests/gpu/cuda_on_cpu.h

__device__ inline float wide(Half x) { return half_to_float(x.bits); }
template <> __device__ inline Half narrow<Half>(float x) { return Half{float_to_half(x)}; }

__device__ inline float minus_infinity() { return __uint_as_float(0xff800000u); }

// ---------------------------------------------------------------------------------- rows and columns

__device__ inline long long my_row() { return (long long)blockIdx.x * blockDim.y + threadIdx.y; }

// The sum of a warp's 32 values, the same bits in every lane.
template <class A> __device__ inline A warp_sum(A value)
{
    for (int lane = 16; lane; lane /= 2) value += __shfl_xor_sync(0xffffffffu, value, lane);
    return value;
}

template <class A> __device__ inline A warp_max(A value)
{
    for (int lane = 16; lane; lane /= 2) value = fmax(value, __shfl_xor_sync(0xffffffffu, value, lane));
    return value;
}

// The sum of a block's 8 values of one column, right in the threads with threadIdx.y = 0.
template <class A> __device__ inline A column_sum(A value)
{
    __shared__ A parts[8][32];
    parts[threadIdx.y][threadIdx.x] = value;
    __syncthreads();
    for (int y = 1; y < 8 && threadIdx.y == 0; y++) value += parts[y][threadIdx.x];
    __syncthreads();                        // none may write to `parts` again before all have read
    return value;
}

// The rows that this thread takes from its block's chunk: from `first`, every eighth, below `last`.
struct Chunk { long long first, last; };

__device__ inline Chunk my_chunk(long long rows, long long chunk)
{
    const long long start = blockIdx.y * chunk;
    return {start + threadIdx.y, start + chunk < rows ? start + chunk : rows};
}
