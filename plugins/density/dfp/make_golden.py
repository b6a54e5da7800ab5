#!/usr/bin/python3
"""Golden values of density/dfp. The optimum of a network is not unique and not certified, so the values are likelihoods that
a fit must reach: the layers written in numpy (matrix form, derivative by the chain rule), scipy's L-BFGS-B with finite
differences from several starts. filters = [1] with factor 0 is the logistic density, whose likelihood is a lower bound.
python3 make_golden.py > golden.csv
"""
import numpy as np
from scipy import optimize, stats

rng = np.random.default_rng(13)
x = np.round(np.concatenate([rng.normal(-1, 0.5, 100), rng.normal(2, 1, 60)]), 6)
u = (x - x.mean()) / x.std()


def log_pdf(theta, filters):
    widths, s, d, at = [1, *filters, 1], u[None, :], np.ones((1, len(u))), 0
    for layer in range(1, len(widths)):
        i, o = widths[layer - 1], widths[layer]
        w = np.log1p(np.exp(theta[at: at + o * i])).reshape(o, i)
        b = theta[at + o * i: at + o * i + o][:, None]
        at += o * i + o
        s, d = w @ s + b, w @ d
        if layer + 1 < len(widths):
            a = np.tanh(theta[at: at + o])[:, None]
            at += o
            s, d = s + a * np.tanh(s), d * (1 + a * (1 - np.tanh(s) ** 2))
    assert at == len(theta)
    return -np.abs(s[0]) - 2 * np.log1p(np.exp(-np.abs(s[0]))) + np.log(d[0])


def n_parameters(filters):
    widths = [1, *filters, 1]
    return sum(o * i + o for i, o in zip(widths, widths[1:])) + sum(filters)


assert n_parameters([3, 3]) == 28 and n_parameters([3, 3, 3]) == 43  # the published counts
print("# From make_golden.py: numpy's network, scipy's L-BFGS-B from several starts; likelihoods to reach or beat.")
for filters in [[1], [3, 3]]:
    best = np.inf
    for _ in range(3):
        run = optimize.minimize(lambda t: -np.mean(log_pdf(t, filters)), rng.normal(0, 0.5, n_parameters(filters)),
                                method="L-BFGS-B", options={"maxiter": 400, "maxfun": 200000})
        best = min(best, run.fun)
    if filters == [1]:
        assert best <= -np.mean(stats.logistic.logpdf(u, *stats.logistic.fit(u))) + 1e-6
    print(f"spec;dfp{{filters={filters}, n_starts=6}}")
    for value in x:
        print(f"sample;{value!r};1.0")
    print(f"mean_log_likelihood;{-best - float(np.log(x.std()))!r};{1e-4 if filters == [1] else 5e-3}")
