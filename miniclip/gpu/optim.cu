// The kernel of optim.py.

// ------------------------------------------------------------------------------------------- AdamW

// A thread takes every (threads of the grid)th number of the flat vectors. `kind` is 0 for a weight, which
// decays, 1 for what does not, 2 for a running average, 3 for what is not AdamW's to move. `finite` and `shrink`
// are read here, on the card, so that the processor need not wait for them; where *finite is 0, nothing changes.
// `average` may be theta itself.
template <class A>
__global__ void adamw(A *theta, const A *__restrict__ gradient, A *__restrict__ m, A *__restrict__ v,
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
        const A g = gradient[i];
        if (kind[i] == 2) {
            value -= statistic_rate * g;
        } else if (kind[i] < 2) {
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
