// Kernels of loss.py.

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
