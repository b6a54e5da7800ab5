#!/usr/bin/python3
"""Golden values of density/histogram from numpy.histogram and scipy.special alone: python3 make_golden.py > golden.csv"""
import numpy as np
from scipy.special import gammaln

rng = np.random.default_rng(20240101)
x = np.round(np.concatenate([rng.normal(-1, 0.5, 90), rng.normal(2, 1, 60)]), 6)
at = [-1.9, -1.03, -0.2, 0.7, 1.81, 2.6]


def case(spec):
    print(f"spec;{spec}")
    for v in x:
        print(f"sample;{v!r};1")


def textbook(spec, edges):
    case(spec)
    height, edges = np.histogram(x, bins=edges, density=True)
    below = np.concatenate([[0], np.cumsum(height * np.diff(edges))])
    for a in at:
        k = np.searchsorted(edges, a, side="right") - 1
        if height[k] > 0:
            print(f"log_pdf;{a};{float(np.log(height[k]))!r};1e-10")
        print(f"cdf;{a};{float(np.interp(a, edges, below))!r};1e-12")
    print("log_pdf;100;-inf;0")


print("# From make_golden.py: numpy.histogram (bins='fd' and by number), Knuth's posterior with scipy.special.gammaln.")
textbook("histogram{tails=none, pseudo_count=0}", np.histogram_bin_edges(x, bins="fd"))
textbook("histogram{rule=fixed, n_bins=11, tails=none, pseudo_count=0}", 11)


def log_posterior(m):  # Knuth (2006), eq. 31
    count, _ = np.histogram(x, bins=m)
    n = len(x)
    return (n * np.log(m) + gammaln(m / 2) - m * gammaln(0.5) - gammaln(n + m / 2) + np.sum(gammaln(count + 0.5)))


best = max(range(1, 300), key=log_posterior)
textbook("histogram{rule=knuth, tails=none, pseudo_count=0}", best)

# The default: pseudo-count 1/2, tail mass 1/(n+1) each, exponential of scale sd / sqrt(2 log(n + 1)).
case("histogram")
edges = np.histogram_bin_edges(x, bins="fd")
count, _ = np.histogram(x, bins=edges)
n, m = len(x), len(count)
t = 1 / (n + 1)
scale = np.std(x) / np.sqrt(2 * np.log(n + 1))
for a in at:
    k = np.searchsorted(edges, a, side="right") - 1
    print(f"log_pdf;{a};{float(np.log((1 - 2 * t) * (count[k] + 0.5) / (n + 0.5 * m) / (edges[1] - edges[0])))!r};1e-10")
print(f"log_pdf;{x.max() + 2.5};{float(np.log(t / scale) - 2.5 / scale)!r};1e-10")
print(f"cdf;{x.min() - 1};{float(t * np.exp(-1 / scale))!r};1e-12")
