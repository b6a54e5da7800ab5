#!/usr/bin/python3
"""Golden values of density/logspline: natural cubic splines of scipy for the log density, the normaliser by fine trapezoids,
maximum likelihood by BFGS with its gradient. Knots at the samples' quantiles as logspline.cpp states. python3 make_golden.py > golden.csv
"""
import numpy as np
from scipy import interpolate, optimize

rng = np.random.default_rng(5)
x = np.sort(np.round(np.concatenate([rng.normal(-1, 0.5, 140), rng.normal(2, 1, 80)]), 6))


def place(u, w, wanted):
    knots, before, following = [u[0]], 0.0, 1
    for value, weight in zip(u, w):
        before += weight
        if following >= wanted - 1 or before * (wanted - 1) < following - 1e-12:
            continue
        knots.append(value)
        while following < wanted - 1 and before * (wanted - 1) >= following - 1e-12:
            following += 1
    return np.array(knots + [u[-1]])


class LogDensity:
    def __init__(self, knots, values):
        self.knots, self.values = knots, values
        self.spline = interpolate.CubicSpline(knots, values, bc_type="natural")
        self.left, self.right = self.spline(knots[0], 1), self.spline(knots[-1], 1)
        grid = np.linspace(knots[0], knots[-1], 60001)
        p = np.exp(self.spline(grid))
        inside = np.concatenate([[0], np.cumsum((p[1:] + p[:-1]) / 2 * (grid[1] - grid[0]))])
        self.left_mass = np.exp(values[0]) / self.left
        self.grid, self.inside = grid, inside
        self.z = self.left_mass + inside[-1] + np.exp(values[-1]) / -self.right

    def g(self, u):
        k = self.knots
        inner = self.spline(np.clip(u, k[0], k[-1]))
        return inner + self.left * np.minimum(u - k[0], 0) + self.right * np.maximum(u - k[-1], 0)

    def log_pdf(self, u):
        return self.g(u) - np.log(self.z)

    def cdf(self, u):
        k = self.knots
        if u < k[0]:
            return np.exp(self.g(u)) / self.left / self.z
        if u > k[-1]:
            return 1 - np.exp(self.g(u)) / -self.right / self.z
        return (self.left_mass + np.interp(u, self.grid, self.inside)) / self.z


def fit(u, w, knots):
    w, n = w / w.sum(), len(knots)
    # g is linear in the values: the gradient of the likelihood is a difference of two means of the unit splines.
    units = [LogDensity.__new__(LogDensity) for _ in range(n)]
    for k, unit in enumerate(units):
        unit.knots, unit.spline = knots, interpolate.CubicSpline(knots, np.eye(n)[k], bc_type="natural")
        unit.left, unit.right = unit.spline(knots[0], 1), unit.spline(knots[-1], 1)
    data = np.array([np.sum(w * unit.g(u)) for unit in units])
    grid = np.linspace(knots[0], knots[-1], 60001)
    on_grid = np.array([unit.g(grid) for unit in units])

    def loss(v):
        d = LogDensity(knots, np.append(v, 0.0))
        if d.left <= 0 or d.right >= 0:
            return 1e9, np.zeros(n - 1)
        p = np.exp(d.log_pdf(grid))
        model = np.trapz(p * on_grid, grid, axis=1)
        for k, unit in enumerate(units):  # exponential tails: mean of u - end is -1/left, -1/right
            model[k] += d.left_mass / d.z * ((k == 0) - unit.left / d.left)
            model[k] += p[-1] / -d.right * ((k == n - 1) - unit.right / d.right)
        return -np.sum(w * d.log_pdf(u)), (model - data)[:-1]
    start = -0.5 * (knots - u.mean()) ** 2 / u.var()
    v = (start - start[-1])[:-1]
    for _ in range(6):
        v = optimize.minimize(loss, v, jac=True, method="BFGS", options={"gtol": 1e-11}).x
    assert np.abs(loss(v)[1]).max() < 1e-7
    return LogDensity(knots, np.append(v, 0.0))


print("# From make_golden.py: scipy's natural cubic spline, trapezoids and BFGS.")
for n_knots, weight in [(4, np.ones(len(x))), (6, np.ones(len(x))), (5, rng.integers(1, 4, len(x)).astype(float))]:
    d = fit(x, weight, place(x, weight / weight.sum(), n_knots))
    print(f"spec;logspline{{n_knots={n_knots}}}")
    for value, w in zip(x, weight):
        print(f"sample;{value!r};{w!r}")
    for at in [-3.0, -1.4, 0.1, 1.2, 2.2, 6.5]:
        print(f"log_pdf;{at};{float(d.log_pdf(at))!r};1e-5")
        print(f"cdf;{at};{float(d.cdf(at))!r};1e-5")
