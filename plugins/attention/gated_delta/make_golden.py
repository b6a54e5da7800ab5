#!/usr/bin/python3
# Golden values of gated_delta: the recurrence with explicit transition matrices, in numpy.
import os
import sys

import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
import make_golden_case as golden

unit = lambda x: x / np.sqrt((x * x).sum(-1, keepdims=True) + 1e-6)

with open(os.path.join(here, "golden.csv"), "w") as out:
    out.write("# written by make_golden.py with numpy\n")
    for seed, spec in enumerate(["gated_delta", "gated_delta{norm=keys, scale=0}", "gated_delta{double_strength=true, scale=0.25}"]):
        q, k, v = golden.inputs(570 + seed, 2, 1, 6, 7, 4, 3)
        rng = np.random.default_rng(580 + seed)
        beta = golden.rounded(rng.uniform(size=(1, 7, 1)))
        log_gate = golden.rounded(-rng.exponential(0.2, size=(1, 7, 1)))
        queries = (q if seed == 1 else unit(q)) * [1, 0.5, 0.25][seed]
        keys, strength, gate = unit(k[0]), beta[0, :, 0] * (2 if seed == 2 else 1), np.exp(log_gate[0, :, 0])
        o = np.zeros((2, 6, 3))
        for h in range(2):
            state = np.zeros((4, 3))
            for t in range(7):
                transition = gate[t] * (np.eye(4) - strength[t] * np.outer(keys[t], keys[t]))
                state = transition @ state + strength[t] * np.outer(keys[t], v[0, t])
                if t >= 1:
                    o[h, t - 1] = queries[h, t - 1] @ state
        golden.write_output(out, spec, True, q, k, v, o, {"log_gate": log_gate, "beta": beta})
