// Kernels of attention.py.

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
