// The fused kernels of miniclip: what kernels.py launches on the graphics card.
//
// Each is one formula of layers.py, attention.py, loss.py or optim.py, read once and written once. T is the
// type of the numbers in memory: float, double, Half or Bfloat16. A is the type that is computed with: double
// for double, float for the rest. Nothing is included, so that NVRTC needs nothing but this file.
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
#endif                                      // elsewhere: tests/cuda_on_cpu.h

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

// -------------------------------------------------------------------------------------- layer norm

// A warp normalises one row: its mean, then its variance about that mean, then y. Both are kept for the backward.
template <class T, class A = typename Sum<T>::type>
__global__ void layer_norm(const T *__restrict__ x, const T *__restrict__ weight, const T *__restrict__ bias,
                           T *__restrict__ y, A *__restrict__ means, A *__restrict__ inverses,
                           long long rows, int width, A eps)
{
    const long long row = my_row();
    if (row >= rows) return;                // the whole warp, which has but one row
    x += row * width, y += row * width;

    A total = 0, squares = 0;
    for (int i = threadIdx.x; i < width; i += 32) total += wide(x[i]);
    const A mean = warp_sum(total) / width;
    for (int i = threadIdx.x; i < width; i += 32) squares += (wide(x[i]) - mean) * (wide(x[i]) - mean);
    const A inverse = 1 / sqrt(warp_sum(squares) / width + eps);

    for (int i = threadIdx.x; i < width; i += 32)
        y[i] = narrow<T>((wide(x[i]) - mean) * inverse * wide(weight[i]) + wide(bias[i]));
    if (threadIdx.x == 0) means[row] = mean, inverses[row] = inverse;
}

// A warp takes one row: dx = (d - mean(d) - x^ mean(d x^)) / sigma, with d = dy weight and x^ the normalised x.
template <class T, class A = typename Sum<T>::type>
__global__ void layer_norm_backward(const T *__restrict__ x, const T *__restrict__ weight, const T *__restrict__ dy,
                                    const A *__restrict__ means, const A *__restrict__ inverses,
                                    T *__restrict__ dx, long long rows, int width)
{
    const long long row = my_row();
    if (row >= rows) return;
    x += row * width, dy += row * width, dx += row * width;
    const A mean = means[row], inverse = inverses[row];

    A along_one = 0, along_x = 0;
    for (int i = threadIdx.x; i < width; i += 32) {
        const A d = wide(dy[i]) * wide(weight[i]);
        along_one += d;
        along_x += d * ((wide(x[i]) - mean) * inverse);
    }
    along_one = warp_sum(along_one) / width;
    along_x = warp_sum(along_x) / width;

    for (int i = threadIdx.x; i < width; i += 32) {
        const A normalised = (wide(x[i]) - mean) * inverse;
        dx[i] = narrow<T>((wide(dy[i]) * wide(weight[i]) - along_one - normalised * along_x) * inverse);
    }
}

// A block sums dy x^ and dy over one chunk of the rows, for 32 columns; `add_chunks` then adds the chunks up.
template <class T, class A = typename Sum<T>::type>
__global__ void layer_norm_columns(const T *__restrict__ x, const T *__restrict__ dy,
                                   const A *__restrict__ means, const A *__restrict__ inverses,
                                   A *__restrict__ dweights, A *__restrict__ dbiases,
                                   long long rows, int width, long long chunk)
{
    const int column = blockIdx.x * 32 + threadIdx.x;
    const Chunk mine = my_chunk(rows, chunk);
    A dweight = 0, dbias = 0;
    if (column < width)
        for (long long row = mine.first; row < mine.last; row += 8) {
            const A d = wide(dy[row * width + column]);
            dweight += d * ((wide(x[row * width + column]) - means[row]) * inverses[row]);
            dbias += d;
        }
    dweight = column_sum(dweight);
    dbias = column_sum(dbias);
    if (column < width && threadIdx.y == 0) {
        dweights[(long long)blockIdx.y * width + column] = dweight;
        dbiases[(long long)blockIdx.y * width + column] = dbias;
    }
}

// A block adds up the chunks' sums (chunks, width) of 32 columns.
template <class T, class A = typename Sum<T>::type>
__global__ void add_chunks(const A *__restrict__ sums, T *__restrict__ out, int chunks, int width)
{
    const int column = blockIdx.x * 32 + threadIdx.x;
    A total = 0;
    if (column < width)
        for (int chunk = threadIdx.y; chunk < chunks; chunk += 8) total += sums[(long long)chunk * width + column];
    total = column_sum(total);
    if (column < width && threadIdx.y == 0) out[column] = narrow<T>(total);
}

// --------------------------------------------------------------------------------------- attention

// A warp turns one row of scores into softmax(scale scores + mask). Row r = (.., a) of (.., A, T) takes row a of
// its mask; `shared` rows in a run have the same mask (A, T), and 0 says that there is none.
template <class T, class A = typename Sum<T>::type>
__global__ void attention_weights(const T *__restrict__ scores, const T *__restrict__ mask, T *__restrict__ weights,
                                  long long rows, int width, A scale, long long shared, long long asking)
{
    const long long row = my_row();
    if (row >= rows) return;
    scores += row * width, weights += row * width;
    if (shared) mask += (row / shared * asking + row % asking) * width;

    A largest = minus_infinity(), total = 0;
    for (int i = threadIdx.x; i < width; i += 32)
        largest = fmax(largest, wide(scores[i]) * scale + (shared ? wide(mask[i]) : 0));
    largest = warp_max(largest);
    for (int i = threadIdx.x; i < width; i += 32)
        total += exp(wide(scores[i]) * scale + (shared ? wide(mask[i]) : 0) - largest);
    const A share = 1 / warp_sum(total);
    for (int i = threadIdx.x; i < width; i += 32)
        weights[i] = narrow<T>(exp(wide(scores[i]) * scale + (shared ? wide(mask[i]) : 0) - largest) * share);
}

// A warp takes one row: dscores = scale w (dw - sum(dw w)).
template <class T, class A = typename Sum<T>::type>
__global__ void attention_weights_backward(const T *__restrict__ weights, const T *__restrict__ dweights,
                                           T *__restrict__ dscores, long long rows, int width, A scale)
{
    const long long row = my_row();
    if (row >= rows) return;
    weights += row * width, dweights += row * width, dscores += row * width;

    A total = 0;
    for (int i = threadIdx.x; i < width; i += 32) total += wide(weights[i]) * wide(dweights[i]);
    total = warp_sum(total);
    for (int i = threadIdx.x; i < width; i += 32)
        dscores[i] = narrow<T>(scale * wide(weights[i]) * (wide(dweights[i]) - total));
}

// ----------------------------------------------------------------------------- activation, bias, norm

// sigma(1.702 x), by way of tanh, which overflows at neither end.
template <class A> __device__ inline A gate(A x) { return (1 + tanh(A(0.851) * x)) * A(0.5); }

// A thread takes every (threads of the grid)th number: y = x gate.
template <class T, class A = typename Sum<T>::type>
__global__ void quick_gelu(const T *__restrict__ x, T *__restrict__ y, long long size)
{
    const long long stride = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < size; i += stride)
        y[i] = narrow<T>(wide(x[i]) * gate<A>(wide(x[i])));
}

// A thread takes every (threads of the grid)th number: dx = dy (gate + 1.702 x gate (1 - gate)).
template <class T, class A = typename Sum<T>::type>
__global__ void quick_gelu_backward(const T *__restrict__ x, const T *__restrict__ dy, T *__restrict__ dx,
                                    long long size)
{
    const long long stride = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < size; i += stride) {
        const A open = gate<A>(wide(x[i]));
        dx[i] = narrow<T>(wide(dy[i]) * (open + A(1.702) * wide(x[i]) * open * (1 - open)));
    }
}

// A warp adds the bias to one row, in place.
template <class T>
__global__ void add_bias(T *__restrict__ y, const T *__restrict__ bias, long long rows, int width)
{
    const long long row = my_row();
    if (row >= rows) return;
    y += row * width;
    for (int i = threadIdx.x; i < width; i += 32) y[i] = narrow<T>(wide(y[i]) + wide(bias[i]));
}

// A warp puts one row on the unit sphere, and keeps its length.
template <class T, class A = typename Sum<T>::type>
__global__ void l2_normalize(const T *__restrict__ x, T *__restrict__ y, A *__restrict__ lengths,
                             long long rows, int width, A eps)
{
    const long long row = my_row();
    if (row >= rows) return;
    x += row * width, y += row * width;

    A squares = 0;
    for (int i = threadIdx.x; i < width; i += 32) squares += wide(x[i]) * wide(x[i]);
    A length = sqrt(warp_sum(squares));
    if (length < eps) length += eps;
    for (int i = threadIdx.x; i < width; i += 32) y[i] = narrow<T>(wide(x[i]) / length);
    if (threadIdx.x == 0) lengths[row] = length;
}

// A warp takes one row: dx = (dy - y sum(dy y)) / |x|, with y = x / |x|.
template <class T, class A = typename Sum<T>::type>
__global__ void l2_normalize_backward(const T *__restrict__ x, const T *__restrict__ dy,
                                      const A *__restrict__ lengths, T *__restrict__ dx, long long rows, int width)
{
    const long long row = my_row();
    if (row >= rows) return;
    x += row * width, dy += row * width, dx += row * width;

    const A length = lengths[row];
    A along = 0;
    for (int i = threadIdx.x; i < width; i += 32) along += wide(dy[i]) * (wide(x[i]) / length);
    along = warp_sum(along);
    for (int i = threadIdx.x; i < width; i += 32)
        dx[i] = narrow<T>((wide(dy[i]) - wide(x[i]) / length * along) / length);
}

// ----------------------------------------------------------------------------- the contrastive loss

// log(sum of exp) = largest + log(sum), kept in its two parts: S is up to 100 / tau, where one number would
// lose what exp(S - log sum) needs.
template <class A> struct LogSum {
    A largest, sum;

    // Takes in a sum of exponentials that is known relative to exp(x); a single number is 1 of exp(x).
    __device__ void add(A x, A times)
    {
        if (x == minus_infinity()) return;              // exp(-inf) adds nothing, and -inf - -inf is no number
        if (x <= largest) {
            sum += times * exp(x - largest);
        } else {
            sum = sum * exp(largest - x) + times;
            largest = x;
        }
    }
};

// A warp takes one row of S (n, n).
template <class T, class A = typename Sum<T>::type>
__global__ void row_log_sums(const T *__restrict__ s, A *__restrict__ largest, A *__restrict__ sums, int n)
{
    const long long row = my_row();
    if (row >= n) return;
    LogSum<A> mine = {minus_infinity(), 0};
    for (int i = threadIdx.x; i < n; i += 32) mine.add(wide(s[row * n + i]), 1);
    for (int lane = 16; lane; lane /= 2) {
        const A theirs = __shfl_xor_sync(0xffffffffu, mine.largest, lane);
        mine.add(theirs, __shfl_xor_sync(0xffffffffu, mine.sum, lane));
    }
    if (threadIdx.x == 0) largest[row] = mine.largest, sums[row] = mine.sum;
}

// A thread takes one column of one chunk of S: every eighth row, and then the block's 8 threads join.
template <class T, class A = typename Sum<T>::type>
__global__ void column_log_sums(const T *__restrict__ s, A *__restrict__ largest, A *__restrict__ sums,
                                int n, long long chunk)
{
    __shared__ LogSum<A> parts[8][32];
    const int column = blockIdx.x * 32 + threadIdx.x;
    const Chunk rows = my_chunk(n, chunk);
    LogSum<A> mine = {minus_infinity(), 0};
    if (column < n)
        for (long long row = rows.first; row < rows.last; row += 8) mine.add(wide(s[row * n + column]), 1);
    parts[threadIdx.y][threadIdx.x] = mine;
    __syncthreads();
    if (column >= n || threadIdx.y) return;
    for (int y = 1; y < 8; y++) mine.add(parts[y][threadIdx.x].largest, parts[y][threadIdx.x].sum);
    largest[(long long)blockIdx.y * n + column] = mine.largest;
    sums[(long long)blockIdx.y * n + column] = mine.sum;
}

// A thread joins the chunks (chunks, n) of one column.
template <class T, class A = typename Sum<T>::type>
__global__ void join_log_sums(const A *__restrict__ largest, const A *__restrict__ sums,
                              A *__restrict__ all_largest, A *__restrict__ all_sums, int chunks, int n)
{
    const int column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= n) return;
    LogSum<A> mine = {minus_infinity(), 0};
    for (long long i = column; i < (long long)chunks * n; i += n) mine.add(largest[i], sums[i]);
    all_largest[column] = mine.largest;
    all_sums[column] = mine.sum;
}

// One block of (32, 8) for all: L = sum of (log sum exp of row i + of column i - 2 S_ii) / 2n.
template <class T, class A = typename Sum<T>::type>
__global__ void contrastive_loss(const T *__restrict__ s, const A *__restrict__ row_largest,
                                 const A *__restrict__ row_sums, const A *__restrict__ column_largest,
                                 const A *__restrict__ column_sums, T *__restrict__ loss, int n)
{
    A total = 0;
    for (int i = threadIdx.y * 32 + threadIdx.x; i < n; i += 256) {
        const A own = wide(s[(long long)i * n + i]);
        total += log(row_sums[i]) - (own - row_largest[i]) + log(column_sums[i]) - (own - column_largest[i]);
    }
    total = warp_sum(column_sum(total));                // right in the warp of threadIdx.y = 0
    if (threadIdx.x == 0 && threadIdx.y == 0) *loss = narrow<T>(total / (2 * (A)n));
}

// A warp writes one row of G = (P + Q - 2I) / 2n.
template <class T, class A = typename Sum<T>::type>
__global__ void contrastive_gradient(const T *__restrict__ s, const A *__restrict__ row_largest,
                                     const A *__restrict__ row_sums, const A *__restrict__ column_largest,
                                     const A *__restrict__ column_sums, T *__restrict__ g, int n)
{
    const long long row = my_row();
    if (row >= n) return;
    s += row * n, g += row * n;
    const A largest = row_largest[row], sum = row_sums[row];
    for (int i = threadIdx.x; i < n; i += 32) {
        const A p = exp(wide(s[i]) - largest) / sum;
        const A q = exp(wide(s[i]) - column_largest[i]) / column_sums[i];
        g[i] = narrow<T>((p + q - (i == row ? 2 : 0)) / (2 * (A)n));
    }
}

// ------------------------------------------------------------------------------------------- AdamW

// A thread takes every (threads of the grid)th number of the flat vectors. `kind` is 0 for a weight, which
// decays, 1 for what does not, 2 for a running average. `finite` and `shrink` are read here, on the card, so
// that the processor need not wait for them; where *finite is 0, nothing changes. `average` may be theta itself.
template <class A, class G>
__global__ void adamw(A *theta, const G *__restrict__ gradient, A *__restrict__ m, A *__restrict__ v,
                      A *average, const unsigned char *__restrict__ kind,
                      const A *__restrict__ shrink, const unsigned char *__restrict__ finite, long long size,
                      A beta1, A new1, A beta2, A new2, A correction, A eps, A step_size, A decay, A follow,
                      A statistic_rate)
{
    if (!*finite) return;
    const A part = new1 * *shrink;
    const long long stride = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < size; i += stride) {
        A value = theta[i];
        const A g = wide(gradient[i]);
        if (kind[i] == 2) {
            value -= statistic_rate * g;
        } else {
            const A fresh = g * part;                   // (1 - beta1) g; new2 makes (1 - beta2) g^2 of its square
            m[i] = m[i] * beta1 + fresh;
            v[i] = v[i] * beta2 + fresh * fresh * new2;
            if (kind[i] == 0) value *= decay;
            value -= m[i] / (sqrt(v[i]) * correction + eps) * step_size;
        }
        theta[i] = value;
        average[i] = average[i] * (1 - follow) + follow * value;
    }
}
