#!/usr/bin/python3
"""Golden values of density/stack: as many folds as samples is leave-one-out, which no drawing of folds can change. Held-out
densities by their definitions in numpy, weights by scipy's bounded scalar minimiser. python3 make_golden.py > golden.csv
"""
import numpy as np
from scipy import optimize, stats

rng = np.random.default_rng(17)
x = np.round(np.concatenate([rng.normal(-1, 0.5, 50), rng.normal(2, 1, 30)]), 6)
n = len(x)


def kde(at, data, h):
    return stats.norm.pdf((at - data[:, None]) / h).mean(axis=0) / h


def normal(at, data):
    return stats.norm.pdf(at, data.mean(), data.std())


print("# From make_golden.py: leave-one-out in numpy, weights by scipy.")
for h1, h2 in [(0.15, 2.5), (0.9, 0.05)]:
    left_out = np.array([[kde(x[i:i + 1], np.delete(x, i), h)[0] for h in (h1, h2)] + [normal(x[i], np.delete(x, i))]
                         for i in range(n)])
    def loss(v):
        w = np.exp(np.append(v, 0)); w /= w.sum()
        return -np.mean(np.log(left_out @ w))
    best = min((optimize.minimize(loss, rng.normal(0, 2, 2), method="Nelder-Mead",
                                  options={"xatol": 1e-10, "fatol": 1e-15, "maxiter": 20000}) for _ in range(6)),
               key=lambda run: run.fun)
    w = np.exp(np.append(best.x, 0)); w /= w.sum()
    alone = np.exp(n * (np.log(left_out).mean(0) + best.fun))  # Akaike's weights, relative to the stack's likelihood
    share = np.exp(1 - np.sum(w > 1e-4))
    w = (share * w + alone) / (share + alone.sum())
    at = np.array([-2.5, -1.03, 0.2, 0.7, 1.81, 4.4])
    p = w[0] * kde(at, x, h1) + w[1] * kde(at, x, h2) + w[2] * normal(at, x)
    print(f'spec;stack{{candidates="kde{{bandwidth=value, h={h1}}} + kde{{bandwidth=value, h={h2}}} + gmm{{n_components=1}}", '
          f"n_folds={n}}}")
    for value in x:
        print(f"sample;{value!r};1.0")
    for a, value in zip(at, p):
        print(f"log_pdf;{a};{float(np.log(value))!r};2e-3")
