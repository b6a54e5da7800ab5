#!/usr/bin/python3
# Golden values of lru: the recurrence of the paper with complex numbers, in numpy.
import os
import sys

import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
import make_golden_case as golden

with open(os.path.join(here, "golden.csv"), "w") as out:
    out.write("# written by make_golden.py with numpy\n")
    for seed, kind in enumerate(["real", "complex"]):
        n = 4 if kind == "real" else 2
        q, k, v = golden.inputs(550 + seed, 2, 1, 6, 7, 4, 3)
        rng = np.random.default_rng(560 + seed)
        parameters = {"nu": golden.rounded(np.log(-np.log(rng.uniform(0.3, 0.99, size=(2, n)))))}
        if kind == "complex":
            parameters["theta"] = golden.rounded(np.log(rng.uniform(0.05, 3, size=(2, n))))
        o = np.zeros((2, 6, 3))
        for h in range(2):
            modulus = np.exp(-np.exp(parameters["nu"][h]))
            gamma = np.sqrt(1 - modulus**2)
            value = modulus.astype(complex)
            pair = lambda x: x.astype(complex)
            if kind == "complex":
                value = modulus * np.exp(1j * np.exp(parameters["theta"][h]))
                pair = lambda x: x[:2] + 1j * x[2:]
            state = np.zeros((n, 3), complex)
            for t in range(7):
                # q . k of rotated pairs is Re(q conj(k)), so the key enters conjugated and lambda turns with i - j
                state = value[:, None] * state + np.outer(gamma * np.conj(pair(k[0, t])), v[0, t])
                if t >= 1:
                    o[h, t - 1] = np.real(pair(q[h, t - 1]) @ state)
        golden.write_output(out, f"lru{{eigenvalue={kind}}}", True, q, k, v, o, {}, parameters)
