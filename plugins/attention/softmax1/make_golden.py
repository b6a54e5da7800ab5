#!/usr/bin/python3
# Golden values of softmax1: scipy's softmax with one more column of logit 0.
import os
import sys

import numpy as np
from scipy.special import softmax

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
import make_golden_case as golden

with open(os.path.join(here, "golden.csv"), "w") as out:
    out.write("# written by make_golden.py with numpy and scipy\n")
    for seed, (spec, causal) in enumerate([("softmax1", True), ("softmax1", False), ("softmax1{scale=3}", True)]):
        q, k, v = golden.inputs(seed, 2, 1, 5, 6, 4, 3)
        s, seen, _ = golden.scores(q, k, causal)
        s = np.where(seen, s * (3 if "scale" in spec else 0.5), -np.inf)
        w = softmax(np.concatenate([s, np.zeros(s.shape[:2] + (1,))], axis=-1), axis=-1)[..., :-1]
        golden.write(out, spec, causal, q, k, v, w)
