#!/usr/bin/python3
# Chunked causal linear attention (elu + 1, normalised) in PyTorch, the strongest forms we could write: a loop over
# chunks with the state carried along, and all chunks at once with a cumulative sum. H = 8, d = 64, float32.
# Debian: apt-get install python3-torch. Run as  OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 linear_attention_torch.py 16384
# (on machines with AVX-512 also OPENBLAS_CORETYPE=SkylakeX ATEN_CPU_CAPABILITY=avx512: Debian's builds pick AVX2 there).
# Prints the median of each form and, checked against a float64 quadratic form at n = 512, its largest error.
import sys
import time

import torch

H, D, EPSILON = 8, 64, 1e-6
phi = lambda x: torch.nn.functional.elu(x) + 1


def chunk_loop(q, k, v, chunk):
    q, k = phi(q), phi(k)
    n = q.shape[1]
    state = torch.zeros(H, D, D)
    total = torch.zeros(H, D, 1)
    mask = torch.tril(torch.ones(chunk, chunk))
    o = torch.empty_like(v)
    for begin in range(0, n, chunk):
        part = slice(begin, begin + chunk)
        a, b, c = q[:, part], k[:, part], v[:, part]
        scores = torch.bmm(a, b.transpose(1, 2)).mul_(mask)
        numerator = torch.baddbmm(torch.bmm(scores, c), a, state)
        denominator = torch.baddbmm(scores.sum(-1, keepdim=True), a, total).add_(EPSILON)
        torch.div(numerator, denominator, out=o[:, part])
        state.baddbmm_(b.transpose(1, 2), c)
        total += b.sum(1).unsqueeze(-1)
    return o


def all_chunks(q, k, v, chunk):
    n = q.shape[1]
    a, b, c = (x.reshape(H, n // chunk, chunk, D) for x in (phi(q), phi(k), v))
    states = torch.matmul(b.transpose(2, 3), c)
    states = torch.cumsum(states, 1) - states
    totals = b.sum(2, keepdim=True)
    totals = torch.cumsum(totals, 1) - totals
    scores = torch.matmul(a, b.transpose(2, 3)).mul_(torch.tril(torch.ones(chunk, chunk)))
    numerator = torch.matmul(scores, c) + torch.matmul(a, states)
    denominator = scores.sum(-1, keepdim=True) + (a * totals).sum(-1, keepdim=True) + EPSILON
    return (numerator / denominator).reshape(H, n, D)


def error(form, chunk):
    q, k, v = (torch.randn(H, 512, D) for _ in range(3))
    a, b = phi(q.double()), phi(k.double())
    w = torch.tril(a @ b.transpose(1, 2))
    exact = (w / (w.sum(-1, keepdim=True) + EPSILON)) @ v.double()
    return (form(q, k, v, chunk) - exact).abs().max().item()


def main():
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 16384
    torch.manual_seed(0)
    q, k, v = (torch.randn(H, n, D) for _ in range(3))
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, n = {n}")
    best = float("inf")
    with torch.no_grad():
        for form in (chunk_loop, all_chunks):
            for chunk in (32, 64, 128, 256):
                form(q, k, v, chunk)
                times = []
                for _ in range(5):
                    start = time.perf_counter()
                    form(q, k, v, chunk)
                    times.append(time.perf_counter() - start)
                median = sorted(times)[2] * 1e3
                best = min(best, median)
                print(f"{form.__name__:12s} chunk {chunk:4d}  {median:8.1f} ms  max error {error(form, chunk):.1e}")
    print(f"best {best:.1f} ms")


main()
