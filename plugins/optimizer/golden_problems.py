"""What the make_golden.py of the optimizers share: problems, exact solutions with scipy, and the writer of golden.csv.

A line of golden.csv:  spec; objective; fields; start; iterations; gap tolerance or time horizon; error bound; state
`fields` are the arrays and attributes of the dataset that makes the objective, separated by '|'.
"""
import pathlib
import numpy as np
from scipy.optimize import minimize


def text(values):
    return " ".join(repr(float(v)) for v in np.ravel(values))


def fields(**given):
    """a=array -> a[7,6]=...; number or word -> name=value. A double underscore in a name is a slash: potential__centre."""
    parts = []
    for name, value in given.items():
        name = name.replace("__", "/")
        if isinstance(value, np.ndarray):
            parts.append(f"{name}[{','.join(str(n) for n in value.shape)}]={text(value)}")
        else:
            parts.append(f"{name}={value!r}" if isinstance(value, float) else f"{name}={value}")
    return "|".join(parts)


class Golden:
    def __init__(self, method, source):
        self.lines = [f"# {method}: numbers by make_golden.py ({source})",
                      "# spec; objective; fields; start; iterations; gap tolerance or time horizon; error bound; state"]

    def add(self, spec, objective, given, start, iterations, tolerance, bound, state):
        self.lines.append(";".join([spec, objective, fields(**given), text(start), str(iterations), repr(float(tolerance)),
                                    repr(float(bound)), text(state)]))

    def least_squares(self, spec, a, b, start, iterations, tolerance, bound, p):
        self.add(spec, "least_squares", {"a": a, "b": b}, start, iterations, tolerance, bound, p)

    def write(self, script):
        pathlib.Path(script).with_name("golden.csv").write_text("\n".join(self.lines) + "\n")


def least_squares_problem(rng, m, n):
    return rng.normal(size=(m, n)).round(6), rng.normal(size=m).round(6)


def least_squares_solution(a, b):
    """argmin 1/2 |A p - b|^2 on the simplex: SLSQP, then the linear system on the support that it finds."""
    n = a.shape[1]
    found = minimize(lambda p: 0.5 * np.sum((a @ p - b) ** 2), np.full(n, 1 / n), jac=lambda p: a.T @ (a @ p - b),
                     bounds=[(0, 1)] * n, constraints={"type": "eq", "fun": lambda p: p.sum() - 1,
                                                       "jac": lambda p: np.ones(n)},
                     method="SLSQP", options={"ftol": 1e-15, "maxiter": 1000})
    used = np.flatnonzero(found.x > 1e-6)
    k = len(used)
    system = np.zeros((k + 1, k + 1))
    system[:k, :k] = a[:, used].T @ a[:, used]
    system[k, :k] = system[:k, k] = 1
    p = np.zeros(n)
    p[used] = np.linalg.solve(system, np.append(a[:, used].T @ b, 1))[:k]
    g = a.T @ (a @ p - b)
    assert p.min() >= 0 and p @ g - g.min() < 1e-12
    return p


def em_step(likelihood, p):
    """One EM step for mixture proportions with equal row weights."""
    return p * (likelihood / (likelihood @ p)[:, None]).mean(axis=0)


def mixture_solution(likelihood):
    """argmin -mean log(L p): EM until it no longer moves, then Newton on the support."""
    p = np.full(likelihood.shape[1], 1 / likelihood.shape[1])
    for _ in range(200000):
        p = em_step(likelihood, p)
    used = np.flatnonzero(p > 1e-9)
    q = p[used]
    columns = likelihood[:, used]
    for _ in range(20):
        ratio = columns / (columns @ q)[:, None]
        system = np.zeros((len(used) + 1,) * 2)
        system[:-1, :-1] = ratio.T @ ratio / len(likelihood)
        system[-1, :-1] = system[:-1, -1] = 1
        q = q + np.linalg.solve(system, np.append(ratio.mean(axis=0), 1 - q.sum()))[:-1]
    p = np.zeros(likelihood.shape[1])
    p[used] = q
    gap = (likelihood / (likelihood @ p)[:, None]).mean(axis=0).max() - 1
    assert q.min() > 0 and gap < 1e-12, gap
    return p
