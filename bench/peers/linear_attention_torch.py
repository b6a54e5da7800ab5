#!/usr/bin/python3
"""Chunked causal linear attention (elu + 1, normalised) in PyTorch on the tensors of attention_peers, the strongest forms we
could write: a loop over chunks with the state carried along, and all chunks at once with a cumulative sum. Takes the fastest
form and chunk of this machine, then times it. linear_attention_torch.py <folder> <n> <heads> <d> <threads> <repetitions>.
Prints one JSON line {times_ms, output, form}."""
import json
import sys
import time

import numpy as np
import torch

EPSILON = 1e-6
folder, n, heads, d, threads, repetitions = sys.argv[1], *map(int, sys.argv[2:7])
torch.set_num_threads(threads)
q, k, v = (torch.from_numpy(np.fromfile(f"{folder}/{x}.f32", np.float32).reshape(n, heads, d).transpose(1, 0, 2).copy())
           for x in "qkv")


def phi(x):
    return torch.nn.functional.elu(x) + 1


def chunk_loop(q, k, v, chunk):
    q, k = phi(q), phi(k)
    state = torch.zeros(heads, d, d)
    total = torch.zeros(heads, d, 1)
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
    a, b, c = (x.reshape(heads, n // chunk, chunk, d) for x in (phi(q), phi(k), v))
    states = torch.matmul(b.transpose(2, 3), c)
    states = torch.cumsum(states, 1) - states
    totals = b.sum(2, keepdim=True)
    totals = torch.cumsum(totals, 1) - totals
    scores = torch.matmul(a, b.transpose(2, 3)).mul_(torch.tril(torch.ones(chunk, chunk)))
    numerator = torch.matmul(scores, c) + torch.matmul(a, states)
    denominator = scores.sum(-1, keepdim=True) + (a * totals).sum(-1, keepdim=True) + EPSILON
    return (numerator / denominator).reshape(heads, n, d)


def seconds(form, chunk):
    start = time.perf_counter()
    form(q, k, v, chunk)
    return time.perf_counter() - start


with torch.no_grad():
    choices = [(form, chunk) for form in (chunk_loop, all_chunks) for chunk in (32, 64, 128, 256) if n % chunk == 0]
    form, chunk = min(choices, key=lambda choice: min(seconds(*choice) for _ in range(3)))
    times = [1e3 * seconds(form, chunk) for _ in range(repetitions)]
    o = form(q, k, v, chunk)
output = f"{folder}/pytorch.f32"
o.numpy().transpose(1, 0, 2).astype(np.float32).tofile(output)
print(json.dumps({"times_ms": times, "output": output, "form": f"{form.__name__} {chunk}"}))
