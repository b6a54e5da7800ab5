#!/usr/bin/python3
"""Golden values of density/logistic_mixture: scipy's logistic distribution, likelihood maximised by Nelder-Mead and BFGS
from many starts. python3 make_golden.py > golden.csv
"""
import numpy as np
from scipy import optimize, stats

rng = np.random.default_rng(9)
x = np.round(np.concatenate([rng.logistic(-2, 0.4, 120), rng.logistic(3, 0.8, 90)]), 6)


def density(u, v):
    k = len(v) // 3
    w = np.exp(v[:k] - v[:k].max())
    return (w / w.sum() * stats.logistic.pdf(np.atleast_1d(u)[:, None], v[k:2 * k], np.exp(v[2 * k:]))).sum(axis=1)


def cdf(u, v):
    k = len(v) // 3
    w = np.exp(v[:k] - v[:k].max())
    return float((w / w.sum() * stats.logistic.cdf(u, v[k:2 * k], np.exp(v[2 * k:]))).sum())


def fit(weight, k):
    loss = lambda v: -np.sum(weight * np.log(density(x, v))) / weight.sum()
    best = None
    for _ in range(8):
        start = np.concatenate([np.zeros(k), rng.choice(x, k, replace=False), np.full(k, np.log(x.std() / 2))])
        run = optimize.minimize(loss, start, method="BFGS", options={"gtol": 1e-8})
        run = optimize.minimize(loss, run.x, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-14, "maxiter": 4000})
        if np.exp(run.x[2 * k:]).min() > 0.05 and (best is None or run.fun < best.fun):
            best = run
    return best


print("# From make_golden.py: scipy.stats.logistic, BFGS and Nelder-Mead from many starts.")
for k, weight in [(1, np.ones(len(x))), (2, np.ones(len(x))), (2, rng.integers(1, 4, len(x)).astype(float))]:
    run = fit(weight, k)
    print(f"spec;logistic_mixture{{n_components={k}, tolerance=1e-09}}")
    for value, w in zip(x, weight):
        print(f"sample;{value!r};{w!r}")
    print(f"mean_log_likelihood;{-run.fun!r};1e-9")
    for at in [-7.0, -2.1, 0.4, 3.3, 9.0]:
        print(f"log_pdf;{at};{float(np.log(density(at, run.x)[0]))!r};1e-4")
        print(f"cdf;{at};{cdf(at, run.x)!r};1e-5")
