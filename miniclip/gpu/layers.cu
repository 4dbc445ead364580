// Kernels of layers.py.

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

// ---------------------------------------------------------------------- activation, the unit sphere

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

// A warp puts one row on the unit sphere, and keeps its length.
template <class T, class A = typename Sum<T>::type>
__global__ void l2_normalize(const T *__restrict__ x, T *__restrict__ y, A *__restrict__ lengths,
                             long long rows, int width, A eps)
{
    const long long row = my_row();
    if (row >= rows) return;
    x += row * width, y += row * width;

    // By a power of two near the largest number, as in layers.py: no square vanishes or overflows.
    A largest = 0, squares = 0;
    for (int i = threadIdx.x; i < width; i += 32) largest = fmax(largest, fabs(wide(x[i])));
    largest = warp_max(largest);
    const A scale = largest > 0 ? ldexp((A)1, ilogb(largest)) : 1;
    for (int i = threadIdx.x; i < width; i += 32) squares += wide(x[i]) / scale * (wide(x[i]) / scale);
    A length = sqrt(warp_sum(squares));
    if (length == 0) length = eps;
    for (int i = threadIdx.x; i < width; i += 32) y[i] = narrow<T>(wide(x[i]) / scale / length);
    if (threadIdx.x == 0) lengths[row] = length * scale;
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

// A warp adds the bias to one row, in place.
template <class T>
__global__ void add_bias(T *__restrict__ y, const T *__restrict__ bias, long long rows, int width)
{
    const long long row = my_row();
    if (row >= rows) return;
    y += row * width;
    for (int i = threadIdx.x; i < width; i += 32) y[i] = narrow<T>(wide(y[i]) + wide(bias[i]));
}
