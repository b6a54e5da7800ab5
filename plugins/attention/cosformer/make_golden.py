#!/usr/bin/python3
# Golden values of cosformer: the weights of equation 9 with the cosine of the distance, in numpy.
import os
import sys

import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
import make_golden_case as golden

with open(os.path.join(here, "golden.csv"), "w") as out:
    out.write("# written by make_golden.py with numpy\n")
    for seed, (causal, horizon) in enumerate([(True, 6), (False, 6), (True, 40)]):
        q, k, v = golden.inputs(620 + seed, 2, 1, 5, 6, 4, 3)
        s, seen, _ = golden.scores(np.maximum(q, 0), np.maximum(k, 0), causal)
        distance = np.arange(5)[:, None] + 1 - np.arange(6)[None, :]
        s = np.where(seen, s * np.cos(np.pi * distance / (2 * horizon)), 0)
        golden.write(out, f"cosformer{{horizon={horizon}}}", causal, q, k, v, s / (s.sum(-1, keepdims=True) + 1e-6))
