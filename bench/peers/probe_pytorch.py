#!/usr/bin/env python3
"""Training speed of the network of studies/train/tiny_gpt.toml in PyTorch: the peer of `borel train`.

Same shapes: byte vocabulary, 4 pre-norm blocks of width 128 with 4 heads, GELU 4x, learned positions, tied output, AdamW
with clipping, 16 sequences of 256 bytes. Prints tokens/s, the median and the best of the steps.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python3 bench/peers/probe_pytorch.py --threads 1 --seconds 15

With two threads the OpenMP flavour of OpenBLAS is needed (libopenblas0-openmp): with the pthread flavour the threads of both
libraries get in each other's way, and PyTorch is slower than with one.
"""
import argparse
import statistics
import time

import torch
from torch import nn
from torch.nn import functional as F

VOCABULARY, LAYERS, WIDTH, HEADS, LENGTH, BATCH = 256, 4, 128, 4, 256, 16


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.out = nn.Linear(WIDTH, WIDTH, bias=False)
        self.wide = nn.Linear(WIDTH, 4 * WIDTH, bias=False)
        self.narrow = nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x, mask):
        b, n, d = x.shape
        q, k, v = self.qkv(self.norm_1(x)).view(b, n, 3, HEADS, d // HEADS).permute(2, 0, 3, 1, 4)
        if hasattr(F, "scaled_dot_product_attention"):  # PyTorch >= 2.0: fused
            o = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            scores = torch.matmul(q * (d // HEADS) ** -0.5, k.transpose(-1, -2)) + mask
            o = torch.matmul(torch.softmax(scores, -1), v)
        x = x + self.out(o.transpose(1, 2).reshape(b, n, d))
        return x + self.narrow(F.gelu(self.wide(self.norm_2(x))))


class TinyGpt(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.position = nn.Parameter(0.02 * torch.randn(LENGTH, WIDTH))
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.register_buffer("mask", torch.full((LENGTH, LENGTH), float("-inf")).triu(1))

    def forward(self, tokens):
        x = self.embedding(tokens) + self.position
        for block in self.blocks:
            x = block(x, self.mask)
        return F.linear(self.norm(x), self.embedding.weight)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=15)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    model = TinyGpt()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1)
    text = torch.randint(97, 122, (1 << 20,))  # speed does not depend on what is read
    seconds, begin = [], time.perf_counter()
    while time.perf_counter() - begin < options.seconds:
        starts = torch.randint(0, len(text) - LENGTH - 1, (BATCH,)).tolist()
        batch = torch.stack([text[s : s + LENGTH + 1] for s in starts])
        start = time.perf_counter()
        loss = F.cross_entropy(model(batch[:, :-1]).reshape(-1, VOCABULARY), batch[:, 1:].reshape(-1))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    tokens = BATCH * LENGTH
    steps = seconds[2:]  # the first ones allocate
    print(
        f"torch {torch.__version__}, {options.threads} threads, {len(steps)} steps: "
        f"{tokens / statistics.median(steps):.0f} tokens/s (median), {tokens / min(steps):.0f} (best)"
    )


if __name__ == "__main__":
    main()
