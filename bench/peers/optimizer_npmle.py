#!/usr/bin/env python3
"""NPMLE by the primal-dual interior point method in numpy (dense Cholesky by OpenBLAS); optimizer_peers runs it.

  optimizer_npmle.py <dataset .h5>
"""
import sys
import time
import h5py
import numpy as np
from scipy.linalg import cho_factor, cho_solve


def interior_point(likelihood, tolerance=1e-10):
    """min -mean log(L w) + sum w, w >= 0 (the sum becomes 1 by itself); Koenker and Mizera (2014)."""
    m, n = likelihood.shape
    w, z = np.full(n, 1 / n), np.ones(n)
    for iteration in range(200):
        fit = likelihood @ w
        ratio = likelihood / fit[:, None]
        g = 1 - ratio.mean(axis=0)
        gap = w @ g / w.sum() - g.min()
        if gap <= tolerance and abs(w.sum() - 1) < 1e-10:
            break
        mu = 0.15 * (w @ z) / n
        h = ratio.T @ ratio / m
        h[np.diag_indices(n)] += z / w
        dw = cho_solve(cho_factor(h), mu / w - g)
        dz = mu / w - z - z / w * dw
        primal = min(1, 0.99 * np.min(np.where(dw < 0, -w / np.where(dw < 0, dw, -1), np.inf)))
        dual = min(1, 0.99 * np.min(np.where(dz < 0, -z / np.where(dz < 0, dz, -1), np.inf)))
        w, z = w + primal * dw, z + dual * dz
    w /= w.sum()
    return -np.log(likelihood @ w).mean(), gap, iteration


with h5py.File(sys.argv[1]) as file:
    likelihood = file["likelihood"][:]
best = np.inf
for _ in range(3):
    begin = time.perf_counter()
    value, gap, iterations = interior_point(likelihood)
    best = min(best, time.perf_counter() - begin)
print(f"numpy interior point: {1e3 * best:.1f} ms, F {value:.13f}, gap {gap:.2e}, {iterations} iterations")
