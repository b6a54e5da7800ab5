#!/usr/bin/python3
"""Golden values of density/gmm: plain EM in numpy from many starts, and published log-likelihoods.

python3 make_golden.py > golden.csv
"""
import numpy as np
from scipy import stats

# Postman, Huchra, Geller (1986), 1000 km/s, values as in the R package MASS.
galaxies = np.array([9.172, 9.350, 9.483, 9.558, 9.775, 10.227, 10.406, 16.084, 16.170, 18.419, 18.552, 18.600, 18.927, 19.052,
    19.070, 19.330, 19.343, 19.349, 19.440, 19.473, 19.529, 19.541, 19.547, 19.663, 19.846, 19.856, 19.863, 19.914, 19.918,
    19.973, 19.989, 20.166, 20.175, 20.179, 20.196, 20.215, 20.221, 20.415, 20.629, 20.795, 20.821, 20.846, 20.875, 20.986,
    21.137, 21.492, 21.701, 21.814, 21.921, 21.960, 22.185, 22.209, 22.242, 22.249, 22.314, 22.374, 22.495, 22.746, 22.747,
    22.888, 22.914, 23.206, 23.241, 23.263, 23.484, 23.538, 23.542, 23.666, 23.706, 23.711, 24.129, 24.285, 24.289, 24.366,
    24.717, 24.990, 25.633, 26.690, 26.995, 32.065, 32.789, 34.279])
assert len(galaxies) == 82 and abs(galaxies.mean() - 20.82817) < 1e-5  # mean as published


def density(x, m):
    return np.sum(m[0] * stats.norm.pdf(np.atleast_1d(x)[:, None], m[1], m[2]), axis=1)


def em(x, weight, k, rng, steps=20000):
    m = [np.full(k, 1 / k), np.sort(rng.choice(x, k, replace=False)), np.full(k, x.std() / k)]
    for _ in range(steps):
        r = m[0] * stats.norm.pdf(x[:, None], m[1], m[2])
        r *= (weight / r.sum(axis=1))[:, None]
        total = r.sum(axis=0)
        mean = (r * x[:, None]).sum(axis=0) / total
        new = [total / weight.sum(), mean, np.sqrt((r * (x[:, None] - mean) ** 2).sum(axis=0) / total)]
        change = max(np.max(np.abs(a - b)) for a, b in zip(new, m))
        m = new
        if change < 1e-11 or m[2].min() < 0.02 * x.std():
            break
    return m


def case(spec, x, weight=None):
    print(f"spec;{spec}")
    for i, v in enumerate(x):
        print(f"sample;{v!r};{1.0 if weight is None else float(weight[i])!r}")


print("# From make_golden.py: plain EM in numpy; and log-likelihoods of Mclust 6.0.0 (unequal variances) on MASS::galaxies / 1000,")
print("# which several starts must reach or beat.")
for k, log_likelihood in [(2, -220.2447), (3, -212.0829), (4, -199.2545), (5, -199.2594), (6, -198.1074)]:
    case(f"gmm{{n_components={k}}}", galaxies)
    print(f"mean_log_likelihood;{log_likelihood / 82!r};1e-5")

rng = np.random.default_rng(3)
x = np.round(np.concatenate([rng.normal(-1.5, 0.5, 110), rng.normal(2, 1, 70)]), 6)
for weight in [np.ones(len(x)), rng.integers(1, 4, len(x)).astype(float)]:
    runs = [em(x, weight, 2, rng) for _ in range(5)]
    best = max(runs, key=lambda m: np.sum(weight * np.log(density(x, m))))
    case("gmm{n_components=2, tolerance=1e-15}", x, weight)
    for a in [-3.0, -1.4, 0.1, 1.2, 2.2, 5.5]:
        print(f"log_pdf;{a};{float(np.log(density(a, best)[0]))!r};1e-5")
        print(f"cdf;{a};{float(np.sum(best[0] * stats.norm.cdf(a, best[1], best[2])))!r};1e-6")
case("gmm{n_components=1}", x)
for a in [-3.0, 0.1, 8.0]:
    print(f"log_pdf;{a};{float(stats.norm.logpdf(a, x.mean(), x.std()))!r};1e-9")
