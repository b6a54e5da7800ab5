#!/usr/bin/python3
"""Golden values of density/kde with numpy and scipy alone: python3 make_golden.py > golden.csv

scipy.stats.gaussian_kde for the density; each bandwidth rule written from its paper. The ISJ fixed point is checked here
against the published test vectors of KDEpy (bw_selection.py).
"""
import numpy as np
from scipy import fft, optimize, stats

rng = np.random.default_rng(7)
x = np.round(np.concatenate([rng.normal(-1, 0.5, 90), rng.normal(2, 1, 60)]), 6)
w = np.ones(len(x))
at = [-2.5, -1.03, 0.2, 0.7, 1.81, 4.4]
n = len(x)
d = np.abs(x[:, None] - x[None, :])  # all pairs, the diagonal as well


def sd_and_iqr():
    return np.std(x, ddof=1), np.subtract(*np.percentile(x, [75, 25]))


def silverman():
    sd, iqr = sd_and_iqr()
    return 0.9 * min(sd, iqr / 1.34) * n ** -0.2


def phi(order, h):
    """Mean over pairs of the derivative of the normal density, Sheather and Jones (1991)."""
    t = d / h
    poly = {4: t**4 - 6 * t**2 + 3, 6: t**6 - 15 * t**4 + 45 * t**2 - 15}[order]
    return np.sum(poly * stats.norm.pdf(t)) / (n * (n - 1) * h ** (order + 1))


def sheather_jones():
    sd, iqr = sd_and_iqr()
    scale = min(sd, iqr / 1.349)
    a, b = 1.24 * scale * n ** (-1 / 7), 1.23 * scale * n ** (-1 / 9)
    alpha = 1.357 * (phi(4, a) / -phi(6, b)) ** (1 / 7)
    f = lambda h: (1 / (2 * np.sqrt(np.pi) * n * phi(4, alpha * h ** (5 / 7)))) ** 0.2 - h
    top = 1.144 * scale * n ** -0.2
    return optimize.brentq(f, 0.1 * top, top, xtol=1e-14)


def cross_validation():
    def score(h):  # int p^2 - 2 / n sum_i p_{-i}(x_i), pairwise form
        square = np.sum(stats.norm.pdf(d, scale=np.sqrt(2) * h)) / n**2
        left_out = (np.sum(stats.norm.pdf(d, scale=h)) - n * stats.norm.pdf(0, scale=h)) / (n * (n - 1))
        return square - 2 * left_out
    # R and the plugin use 1/n for 1/(n - 1) in the second term's normalisation of the pair sum
    def score_r(h):
        off = ~np.eye(n, dtype=bool)
        t2 = (d[off] / h) ** 2
        pairs = np.sum(np.exp(-t2 / 4) - np.sqrt(8) * np.exp(-t2 / 2)) / 2
        return (0.5 + pairs / n) / (n * h * np.sqrt(np.pi))
    grid = np.geomspace(0.05, 1.0, 400)
    start = grid[np.argmin([score_r(h) for h in grid])]
    h = optimize.minimize_scalar(score_r, bounds=(start * 0.9, start * 1.1), method="bounded", options={"xatol": 1e-12}).x
    assert abs(h / optimize.minimize_scalar(score, bounds=(start * 0.8, start * 1.2), method="bounded").x - 1) < 0.05
    return h


def isj_fixed_point(t, big_n, i_sq, a2):
    """t - xi gamma^[7](t), Botev, Grotowski, Kroese (2010), eq. 30-32."""
    f = 2 * np.pi**14 * np.sum(i_sq**7.0 * a2 * np.exp(-i_sq * np.pi**2 * t))
    for s in range(6, 1, -1):
        k0 = np.prod(np.arange(1, 2 * s, 2, dtype=float)) / np.sqrt(2 * np.pi)
        c = (1 + 0.5 ** (s + 0.5)) / 3
        time = (2 * c * k0 / big_n / f) ** (2 / (3 + 2 * s))
        f = 2 * np.pi ** (2 * s) * np.sum(i_sq ** float(s) * a2 * np.exp(-i_sq * np.pi**2 * time))
    return t - (2 * big_n * np.sqrt(np.pi) * f) ** -0.4


ones = np.arange(1, 51, dtype=float)  # KDEpy's a2 is the squared scipy transform: 4 times Botev's
assert abs(isj_fixed_point(0.01, 50, ones, ones / 4) - 0.0099076220293967618) < 1e-15
found = optimize.brentq(lambda t: isj_fixed_point(t, 50, ones, ones / 4), 1e-12, 1e-3)
assert abs(found - 9.237610787616029e-05) < 1e-10, found


def isj():
    cells = 1 << 15
    low, high = x.min(), x.max()
    begin, width = low - (high - low) / 2, 2 * (high - low)
    share, _ = np.histogram(x, bins=cells, range=(begin, begin + width))
    a2 = (fft.dct(share / n, type=2)[1:] / 2) ** 2
    i_sq = np.arange(1, cells, dtype=float) ** 2
    f = lambda t: isj_fixed_point(t, n, i_sq, a2)
    ts = np.geomspace(1e-9, 1e-2, 200)
    first = next(k for k in range(1, 200) if f(ts[k - 1]) < 0 <= f(ts[k]))
    return np.sqrt(optimize.brentq(f, ts[first - 1], ts[first], xtol=1e-18)) * width


def case(spec, h, bound, kernel="gaussian"):
    print(f"spec;{spec}")
    for v, weight in zip(x, w):
        print(f"sample;{v!r};{weight!r}")
    share = w / w.sum()
    for a in at:
        if kernel == "gaussian":
            p, f = np.sum(share * stats.norm.pdf(a, x, h)), np.sum(share * stats.norm.cdf(a, x, h))
        else:
            u = np.clip((a - x) / h, -1, 1)
            p, f = np.sum(share * 0.75 * (1 - u**2)) / h, np.sum(share * (0.5 + 0.75 * (u - u**3 / 3)))
        print(f"log_pdf;{a};{float(np.log(p))!r};{bound}")
        print(f"cdf;{a};{float(f)!r};{bound}")


print("# From make_golden.py: sums of scipy.stats.norm; bandwidth rules written from their papers.")
reference = stats.gaussian_kde(x, bw_method=0.3 / np.std(x, ddof=1))
assert np.allclose(reference(at), [np.mean(stats.norm.pdf(a, x, 0.3)) for a in at], rtol=1e-12)
case("kde{bandwidth=value, h=0.3, evaluation=exact}", 0.3, 1e-12)
case("kde{bandwidth=value, h=0.3}", 0.3, 1e-10)
case("kde{bandwidth=value, h=0.7, kernel=epanechnikov}", 0.7, 1e-12, "epanechnikov")
case("kde{bandwidth=silverman}", silverman(), 1e-10)
case("kde{bandwidth=sheather_jones}", sheather_jones(), 1e-8)
case("kde{bandwidth=cross_validation}", cross_validation(), 1e-5)
case("kde{bandwidth=isj}", isj(), 1e-4)
canonical = 15**0.2 / (1 / (2 * np.sqrt(np.pi))) ** 0.2
case("kde{bandwidth=silverman, kernel=epanechnikov}", silverman() * canonical, 1e-6, "epanechnikov")
w = rng.integers(0, 4, n).astype(float)
case("kde{bandwidth=value, h=0.3}", 0.3, 1e-10)
