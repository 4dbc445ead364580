// CUDA's words for the processor, so that g++ compiles a .cu file and cuda_on_cpu.py runs it.
//
// Blocks run one after another, in one thread of the system. The threads of a block are fibers, each with a
// stack of its own; one runs until it must wait for its warp or its block, and then the next one does. A fiber is
// made once, by makecontext, and runs its thread of every block: setjmp and longjmp are much cheaper. So a run
// is deterministic, and what a card leaves undefined is refused: a barrier that some threads never reach, a
// shuffle in which lanes are missing. Run `reversed`, blocks and threads go backwards: a kernel that forgets a
// barrier gives other numbers then.

#include <math.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

#define __global__
#define __device__
#define __shared__ static           // one block at a time

struct Dim3 { unsigned x, y, z; };
static Dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace cuda_on_cpu {

enum State { READY, AT_WARP, AT_BLOCK, DONE };
struct Fiber { jmp_buf here; ucontext_t context; bool made; State state; Dim3 index; unsigned number, shuffles; };

static const unsigned WARP = 32, MOST = 1024, STACK = 1 << 16;
static std::vector<Fiber> fibers(MOST);
static unsigned size;                       // how many of them a block has
static char *stacks = (char *)malloc((size_t)MOST * STACK);
static std::vector<uint64_t> lanes[2];      // what the threads shuffle: one turn is written while the last is read
static jmp_buf scheduler;
static Fiber *running;
static void (*body)();

static void wait(State state)
{
    running->state = state;
    if (!_setjmp(running->here)) _longjmp(scheduler, 1);
}

static void enter()
{
    for (;;) {
        body();
        wait(DONE);
    }
}

static void resume(Fiber &fiber)
{
    running = &fiber;
    threadIdx = fiber.index;
    if (_setjmp(scheduler)) return;
    if (fiber.made) _longjmp(fiber.here, 1);
    fiber.made = true;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = stacks + (size_t)fiber.number * STACK;
    fiber.context.uc_stack.ss_size = STACK;
    makecontext(&fiber.context, enter, 0);
    setcontext(&fiber.context);
}

static unsigned count(unsigned first, unsigned last, State state)
{
    unsigned n = 0;
    for (unsigned i = first; i < last; i++) n += fibers[i].state == state;
    return n;
}

// Runs the warp until each of its threads is done or waits for the block. Returns what went wrong, or null.
static const char *run_warp(unsigned first, unsigned last, bool reversed)
{
    for (;;) {
        for (unsigned i = first; i < last; i++) {
            Fiber &fiber = fibers[reversed ? last - 1 - (i - first) : i];
            if (fiber.state == READY) resume(fiber);
        }
        const unsigned waiting = count(first, last, AT_WARP);
        if (!waiting) return nullptr;
        if (waiting < WARP) return "a shuffle or __syncwarp was not reached by all 32 lanes of the warp";
        for (unsigned i = first; i < last; i++) fibers[i].state = READY;
    }
}

static const char *run_block(bool reversed)
{
    const unsigned warps = (size + WARP - 1) / WARP;
    for (unsigned i = 0; i < size; i++) {
        Fiber &fiber = fibers[i];
        fiber.state = READY;
        fiber.number = i;
        fiber.shuffles = 0;
        fiber.index = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
    }
    for (;;) {
        for (unsigned i = 0; i < warps; i++) {
            const unsigned first = (reversed ? warps - 1 - i : i) * WARP;
            const char *fault = run_warp(first, first + WARP < size ? first + WARP : size, reversed);
            if (fault) return fault;
        }
        if (count(0, size, DONE) == size) return nullptr;
        if (count(0, size, DONE)) return "a __syncthreads was not reached by all threads of the block";
        for (unsigned i = 0; i < size; i++) fibers[i].state = READY;
    }
}

// One letter (p pointer, f float, i integer) and one size (for a pointer, of what it points to) a parameter.
template <class P> std::string describe()
{
    typedef typename std::remove_pointer<P>::type Pointee;
    const bool pointer = std::is_pointer<P>::value;
    return (pointer ? "p" : std::is_floating_point<P>::value ? "f" : "i")
         + std::to_string(pointer ? sizeof(Pointee) : sizeof(P)) + " ";
}

template <class... P> std::string describe_kernel(void (*)(P...))
{
    return (std::string() + ... + describe<P>());
}

template <class... P, size_t... I>
std::tuple<P...> read_arguments(void **arguments, std::index_sequence<I...>)
{
    return std::tuple<P...>(*(P *)arguments[I]...);
}

template <class... P>
const char *launch(void (*kernel)(P...), const unsigned *grid, const unsigned *block, void **arguments, int reversed)
{
    static void (*function)(P...);
    static std::tuple<P...> *values;
    std::tuple<P...> own = read_arguments<P...>(arguments, std::index_sequence_for<P...>());
    function = kernel;
    values = &own;
    body = [] { std::apply(function, *values); };
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    size = block[0] * block[1] * block[2];
    for (auto &turn : lanes) turn.resize(size);
    const uint64_t blocks = (uint64_t)grid[0] * grid[1] * grid[2];
    for (uint64_t n = 0; n < blocks; n++) {
        const uint64_t i = reversed ? blocks - 1 - n : n;
        blockIdx = {unsigned(i % grid[0]), unsigned(i / grid[0] % grid[1]), unsigned(i / grid[0] / grid[1])};
        if (const char *fault = run_block(reversed)) {
            for (Fiber &fiber : fibers) fiber.made = false;     // some are in the midst of it
            return fault;
        }
    }
    return nullptr;
}

// The value that lane `from` of this warp has brought.
template <class T> T exchange(T value, unsigned from)
{
    static_assert(sizeof(T) <= sizeof(uint64_t), "a shuffle takes at most 8 bytes");
    Fiber &me = *running;
    std::vector<uint64_t> &turn = lanes[me.shuffles++ % 2];
    memcpy(&turn[me.number], &value, sizeof(T));
    wait(AT_WARP);
    memcpy(&value, &turn[me.number / WARP * WARP + from], sizeof(T));
    return value;
}

}   // namespace cuda_on_cpu

static inline void __syncthreads() { cuda_on_cpu::wait(cuda_on_cpu::AT_BLOCK); }
static inline void __syncwarp(unsigned = 0xffffffffu) { cuda_on_cpu::wait(cuda_on_cpu::AT_WARP); }
static inline unsigned my_lane() { return cuda_on_cpu::running->number % cuda_on_cpu::WARP; }

template <class T> T __shfl_sync(unsigned, T value, int lane) { return cuda_on_cpu::exchange(value, lane % 32); }
template <class T> T __shfl_xor_sync(unsigned, T value, int mask)
{
    return cuda_on_cpu::exchange(value, my_lane() ^ mask);
}
template <class T> T __shfl_down_sync(unsigned, T value, int by)
{
    return cuda_on_cpu::exchange(value, my_lane() + by < 32 ? my_lane() + by : my_lane());
}

static inline float rsqrtf(float x) { return 1 / sqrtf(x); }
static inline double rsqrt(double x) { return 1 / sqrt(x); }
static inline float __uint_as_float(unsigned bits) { float x; memcpy(&x, &bits, 4); return x; }
static inline unsigned __float_as_uint(float x) { unsigned bits; memcpy(&bits, &x, 4); return bits; }

// What the card's cvt.f32.f16 and cvt.rn.f16.f32 do.
static inline float half_to_float(unsigned short bits)
{
    const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
    const float size = exponent == 31 ? (mantissa ? NAN : INFINITY)
                     : exponent ? ldexpf(1024 + mantissa, exponent - 25) : ldexpf(mantissa, -24);
    return bits >> 15 ? -size : size;
}

static inline unsigned short float_to_half(float x)
{
    const unsigned sign = __float_as_uint(x) >> 31 << 15;
    const float size = fabsf(x);
    if (size != size) return 0x7fff;
    if (size >= 65520) return sign | 0x7c00;            // nearer to 2^16 than to the largest, 65504
    int exponent;
    frexpf(size, &exponent);                            // size = [1/2, 1) 2^exponent
    if (exponent < -13 || size == 0) exponent = -13;    // below 2^-14 all have the same step, 2^-24
    const unsigned steps = (unsigned)nearbyintf(ldexpf(size, 11 - exponent));       // ties to even
    return sign | (((exponent + 13) << 10) + steps);    // of steps, the bit 2^10 is the implied one, or a carry
}
