#!/usr/bin/python3
"""Golden values of density/spline_flow: the spline as Durkan et al. (2019) write it (arXiv 1906.04032, eqs. 4-8), the
penalised likelihood minimised by scipy's BFGS with numeric gradients from many starts. python3 make_golden.py > golden.csv
"""
import numpy as np
from scipy import optimize, stats

rng = np.random.default_rng(1906)
x = np.round(np.concatenate([rng.normal(-1, 0.4, 90), rng.normal(2, 0.9, 70)]), 6)
BOUND, PSEUDO, TAIL, LEAST_HEIGHT = 3.0, 0.5, 9.5, 1e-6


class Flow:
    """Knots and slopes from the free numbers v; u = (x - mean) / sd."""

    def __init__(self, v, n_bins, begin, end, least):
        share = np.exp(v[:n_bins] - v[:n_bins].max())
        width = least + (end - begin - n_bins * least) * share / share.sum()
        height = LEAST_HEIGHT + np.exp(v[n_bins + 1:2 * n_bins + 1])
        self.x = begin + np.concatenate([[0], np.cumsum(width)])
        self.y = v[n_bins] + np.concatenate([[0], np.cumsum(height)])
        log_s = np.log(height / width)
        middle = 0.5 * (np.concatenate([log_s[:1], log_s]) + np.concatenate([log_s, log_s[-1:]]))
        self.d = np.exp(middle + BOUND * np.tanh(v[2 * n_bins + 1:] / BOUND))
        self.w, self.h, self.s = width, height, height / width

    def forward(self, u):
        u = np.atleast_1d(u)
        k = np.clip(np.searchsorted(self.x, u, side="right") - 1, 0, len(self.w) - 1)
        t = (u - self.x[k]) / self.w[k]
        s, d0, d1 = self.s[k], self.d[k], self.d[k + 1]
        bottom = s + (d1 + d0 - 2 * s) * t * (1 - t)
        z = self.y[k] + self.h[k] * (s * t**2 + d0 * t * (1 - t)) / bottom
        with np.errstate(invalid="ignore"):
            log_slope = np.log(s**2 * (d1 * t**2 + 2 * s * t * (1 - t) + d0 * (1 - t) ** 2) / bottom**2)
        left, right = u < self.x[0], u > self.x[-1]
        z = np.where(left, self.y[0] + self.d[0] * (u - self.x[0]), z)
        z = np.where(right, self.y[-1] + self.d[-1] * (u - self.x[-1]), z)
        log_slope = np.where(left, np.log(self.d[0]), np.where(right, np.log(self.d[-1]), log_slope))
        return z, log_slope


def fit(weight, n_bins, base):
    mean = np.average(x, weights=weight)
    sd = np.sqrt(np.average((x - mean) ** 2, weights=weight))
    n = weight.sum() ** 2 / (weight**2).sum()
    u, order = (x - mean) / sd, np.argsort(x)
    below = np.cumsum(weight[order]) / weight.sum()
    tail = min(TAIL / n, 0.095)
    # The first point at which the cdf reaches a level.
    begin, end = (u[order][np.searchsorted(below, level)] for level in (tail, 1 - tail))
    least = min(0.14 / np.sqrt(n), 0.25 * (end - begin) / n_bins)
    share = weight / weight.sum()

    def loss(v):
        z, log_slope = Flow(v, n_bins, begin, end, least).forward(u)
        return -(share * (base.logpdf(z) + log_slope)).sum() - PSEUDO / n * v[n_bins + 1:2 * n_bins + 1].sum()

    best = None
    for trial in range(60):
        knots = np.quantile(u, np.sort(rng.uniform(0.05, 0.95, n_bins - 1))) if trial else np.linspace(begin, end, n_bins + 1)[1:-1]
        edges = np.concatenate([[begin], np.clip(knots, begin, end), [end]])
        level = np.clip([(u < e).mean() for e in edges], 0.5 / n, 1 - 0.5 / n)
        y = base.ppf(level)
        start = np.concatenate([np.log(np.maximum(np.diff(edges), 1e-3)), y[:1], np.log(np.maximum(np.diff(y), 1e-3)), np.zeros(n_bins + 1)])
        run = optimize.minimize(loss, start, method="BFGS", options={"gtol": 1e-7, "maxiter": 3000})
        if best is None or run.fun < best.fun:
            best = run
    for _ in range(20):  # the likelihood has kinks where a knot passes a sample: restarts end at its optimum
        run = optimize.minimize(loss, best.x, method="BFGS", jac="3-point", options={"gtol": 1e-10, "maxiter": 3000})
        run = optimize.minimize(loss, run.x, method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-15, "maxiter": 20000, "maxfev": 20000})
        if run.fun > best.fun - 1e-13:
            break
        best = run
    return Flow(best.x, n_bins, begin, end, least), mean, sd, share


# With inner knots the likelihood has a kink wherever a knot passes a sample: its top is found to 1e-5 nats, not to rounding.
print("# From make_golden.py: scipy.stats.norm and logistic, BFGS with numeric gradients from 60 starts.")
for n_bins, base, name, weight in [(1, stats.norm, "normal", np.ones(len(x))), (3, stats.norm, "normal", np.ones(len(x))),
                                   (2, stats.logistic, "logistic", rng.integers(1, 4, len(x)).astype(float))]:
    flow, mean, sd, share = fit(weight, n_bins, base)

    def log_pdf(at):
        z, log_slope = flow.forward((at - mean) / sd)
        return base.logpdf(z) + log_slope - np.log(sd)

    bound = 1e-8 if n_bins == 1 else 2e-5
    print(f"spec;spline_flow{{n_bins={n_bins}, base={name}, n_starts=20, tolerance=1e-10}}")
    for value, w in zip(x, weight):
        print(f"sample;{value!r};{w!r}")
    print(f"mean_log_likelihood;{float((share * log_pdf(x)).sum())!r};{bound}")
    for at in [-1.3, -0.2, 0.6, 1.9, 3.2] + ([-4.0, 8.0] if n_bins == 1 else []):
        print(f"log_pdf;{at};{float(log_pdf(np.array(at))[0])!r};{500 * bound}")
        print(f"cdf;{at};{float(base.cdf(flow.forward((at - mean) / sd)[0])[0])!r};{50 * bound}")
    for p in [0.02, 0.3, 0.95]:
        at = optimize.brentq(lambda u: float(flow.forward(u)[0][0]) - base.ppf(p), -50, 50, xtol=1e-14)
        print(f"quantile;{p};{mean + sd * at!r};{500 * bound}")
