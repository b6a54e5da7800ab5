#!/usr/bin/python3
"""Golden values of density/fourier from the paper's form: autocorrelation c_n, cosine series, scipy's BFGS with numerical
gradients and many starts. Nothing of the squared-modulus form that the plugin uses. python3 make_golden.py > golden.csv
"""
import numpy as np
from scipy import optimize


def series(a):
    """c_n / c_0 for n = 1 .. N - 1, arXiv 2402.15345 eq. 3."""
    n = len(a)
    c = np.array([np.sum(a[: n - k] * np.conj(a[k:])) for k in range(n)])
    return c[1:] / c[0].real


def pdf(a, x):
    n = np.arange(1, len(a))
    return 0.5 + np.real(np.exp(1j * np.pi * np.outer(x, n)) @ series(a))


def cdf(a, x):
    n = np.arange(1, len(a))
    part = (np.exp(1j * np.pi * np.outer(x, n)) - np.exp(-1j * np.pi * n)) / (1j * np.pi * n)
    return (np.asarray(x) + 1) / 2 + np.real(part @ series(a))


def penalty(a):
    grid = (np.arange(4096) + 0.5) / 2048 - 1
    n = np.arange(1, len(a))
    slope = np.real(np.exp(1j * np.pi * np.outer(grid, n)) @ (series(a) * 1j * np.pi * n))
    return np.mean(slope**2) * 2


def fit(x, w, size, gamma, rng):
    def loss(v):
        a = v[:size] + 1j * v[size:]
        p = pdf(a, x)
        return np.inf if p.min() <= 0 else -np.sum(w * np.log(p)) / np.sum(w) + (gamma * penalty(a) if gamma else 0)
    best = None
    for _ in range(12):
        run = optimize.minimize(loss, rng.normal(size=2 * size), method="BFGS", options={"gtol": 1e-7, "maxiter": 3000})
        if best is None or run.fun < best.fun:
            best = run
    return best.x[:size] + 1j * best.x[size:]


def case(spec, x, w):
    print(f"spec;{spec}")
    for v, weight in zip(x, w):
        print(f"sample;{v!r};{weight!r}")


rng = np.random.default_rng(11)
at = np.array([-0.93, -0.5, -0.2, 0.0, 0.31, 0.64, 0.97])
x = np.round(np.clip(np.concatenate([rng.normal(-0.4, 0.2, 120), rng.normal(0.4, 0.15, 80)]), -0.99, 0.99), 6)
w = np.ones(len(x))
print("# From make_golden.py: the paper's series form, fitted with scipy's BFGS.")
for size, gamma in [(3, 0), (5, 0), (5, 0.01)]:
    a = fit(x, w, size, gamma, rng)
    case(f"fourier{{n_frequencies={size}, map=identity, placement=fixed, penalty={gamma}}}", x, w)
    for v in at:
        print(f"log_pdf;{v};{float(np.log(pdf(a, [v])[0]))!r};2e-4")
        print(f"cdf;{v};{float(cdf(a, [v])[0])!r};1e-5")

# The real line: y = scale atanh(x) + offset, so q(y) = p(x) (1 - x^2) / scale.
offset, scale = 3.0, 2.0
a = fit(x, w, 4, 0, rng)
y = scale * np.arctanh(x) + offset
case(f"fourier{{n_frequencies=4, placement=fixed, offset={offset}, scale={scale}}}", y, w)
for v in at:
    u = scale * np.arctanh(v) + offset
    print(f"log_pdf;{u!r};{float(np.log(pdf(a, [v])[0] * (1 - v * v) / scale))!r};2e-4")
    print(f"cdf;{u!r};{float(cdf(a, [v])[0])!r};1e-5")

# Weights: the density cos^2, exactly in the model class for 2 coefficients: p(x) = (1 + cos pi x) / 2.
grid = (np.arange(200) + 0.5) / 100 - 1
case("fourier{n_frequencies=2, map=identity, placement=fixed}", grid, (1 + np.cos(np.pi * grid)) / 2)
for v in [-0.5, 0.0, 0.25]:
    print(f"log_pdf;{v};{float(np.log((1 + np.cos(np.pi * v)) / 2))!r};1e-6")
    print(f"cdf;{v};{float((v + 1) / 2 + np.sin(np.pi * v) / (2 * np.pi))!r};1e-6")
