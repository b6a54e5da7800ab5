#!/usr/bin/python3
"""Golden values of density/bernstein: scipy.stats.beta, weights by scipy's SLSQP on the simplex (no EM).
python3 make_golden.py > golden.csv
"""
import numpy as np
from scipy import optimize, stats

rng = np.random.default_rng(21)
x = np.round(np.concatenate([rng.normal(-1, 0.5, 120), rng.normal(2, 1, 70)]), 6)
at = np.array([-3.0, -1.4, 0.1, 1.2, 2.2, 4.0])


def fit(t, w, m):
    basis = np.stack([stats.beta.pdf(t, j, m - j + 1) for j in range(1, m + 1)], axis=1)
    loss = lambda v: -np.sum(w * np.log(basis @ v)) / w.sum()
    slope = lambda v: -(basis * (w / (basis @ v))[:, None]).sum(axis=0) / w.sum()
    run = optimize.minimize(loss, np.full(m, 1 / m), jac=slope, method="SLSQP", bounds=[(1e-12, 1)] * m,
                            constraints=[{"type": "eq", "fun": lambda v: v.sum() - 1, "jac": lambda v: np.ones(m)}],
                            options={"ftol": 1e-15, "maxiter": 2000})
    assert np.max(-slope(run.x)) - 1 < 1e-5, np.max(-slope(run.x)) - 1  # the certificate
    return run.x


print("# From make_golden.py: scipy.stats.beta and SLSQP.")
for m, kind, w in [(5, "normal", np.ones(len(x))), (12, "interval", np.ones(len(x))),
                   (8, "normal", rng.integers(1, 4, len(x)).astype(float))]:
    mean, n = np.average(x, weights=w), w.sum() ** 2 / np.sum(w**2)
    sd, beyond = np.sqrt(np.average((x - mean) ** 2, weights=w)), np.ptp(x) / n
    if kind == "normal":
        t, dt = (lambda u: stats.norm.cdf(u, mean, sd)), (lambda u: stats.norm.pdf(u, mean, sd))
    else:
        low, width = x.min() - beyond, np.ptp(x) + 2 * beyond
        t, dt = (lambda u: (u - low) / width), (lambda u: np.full_like(u, 1 / width))
    v = fit(t(x), w, m)
    print(f"spec;bernstein{{degree={m}, map={kind}, tolerance=1e-10, max_iterations=100000}}")
    for value, weight in zip(x, w):
        print(f"sample;{value!r};{weight!r}")
    for u in at:
        p = sum(v[j - 1] * stats.beta.pdf(t(np.array([u])), j, m - j + 1) for j in range(1, m + 1)) * dt(np.array([u]))
        f = sum(v[j - 1] * stats.beta.cdf(t(np.array([u])), j, m - j + 1) for j in range(1, m + 1))
        print(f"log_pdf;{u};{float(np.log(p[0]))!r};1e-3")
        print(f"cdf;{u};{float(f[0])!r};1e-4")
