#!/usr/bin/python3
"""PyTorch's attention on the tensors of attention_peers, row-blocked: the best form that its CPU operators allow, as the
naive form is bound by page faults of n x n temporaries. pytorch_attention.py <folder> <n> <heads> <d> <threads>
<repetitions> <causal> [backward]. Prints one JSON line {times_ms, output}."""
import json
import sys
import time

import numpy as np
import torch

folder, n, heads, d, threads, repetitions, causal = sys.argv[1], *map(int, sys.argv[2:8])
backward = len(sys.argv) > 8
torch.set_num_threads(threads)
q, k, v = (torch.from_numpy(np.fromfile(f"{folder}/{x}.f32", np.float32).reshape(n, heads, d).transpose(1, 0, 2).copy())
           for x in "qkv")
BLOCK = 64
triangle = torch.full((BLOCK, BLOCK), float("-inf")).triu(1)


def attention(q, k, v):
    out = []
    for r in range(0, n, BLOCK):
        end = min(r + BLOCK, n)
        last = end if causal else n
        s = torch.bmm(q[:, r:end] * d ** -0.5, k[:, :last].transpose(1, 2))
        if causal:
            s[:, :, r:end] += triangle[: end - r, : end - r]
        out.append(torch.bmm(torch.softmax(s, -1), v[:, :last]))
    return torch.cat(out, 1)


def once():
    if not backward:
        with torch.no_grad():
            return attention(q, k, v), None
    a, b, c = (x.detach().requires_grad_() for x in (q, k, v))
    o = attention(a, b, c)
    start = time.perf_counter()
    o.backward(o.detach())
    return o.detach(), time.perf_counter() - start


once()
times = []
for _ in range(repetitions):
    start = time.perf_counter()
    o, seconds = once()
    times.append(1e3 * (seconds if backward else time.perf_counter() - start))
output = f"{folder}/pytorch.f32"
o.numpy().transpose(1, 0, 2).astype(np.float32).tofile(output)
print(json.dumps({"times_ms": times, "output": output}))
