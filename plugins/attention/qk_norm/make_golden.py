#!/usr/bin/python3
# Golden values of softmax over normalised keys and queries.
import os
import sys

import numpy as np
from scipy.special import softmax

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
import make_golden_case as golden

unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)

with open(os.path.join(here, "golden.csv"), "w") as out:
    out.write("# written by make_golden.py with numpy and scipy\n")
    for seed, (spec, causal) in enumerate([("qk_norm", True), ("qk_norm{norm=queries}", False), ("qk_norm{norm=both}", True),
                                           ("qk_norm{norm=both, scale=10}", False),
                                           ("qk_norm{norm=both, learned=true}", True)]):
        q, k, v = golden.inputs(seed, 2, 1, 5, 6, 4, 3)
        _, seen, n = golden.scores(q, k, causal)
        s, _, _ = golden.scores(q if spec == "qk_norm" else unit(q), k if "queries" in spec else unit(k), causal)
        parameters = {}
        if "learned" in spec:
            parameters["scale"] = np.array([2.5, 0.75])
            s = s * parameters["scale"][:, None, None]
        elif "scale" in spec:
            s = s * 10
        elif "both" in spec:
            s = s * 4 * np.log(n)
        w = softmax(np.where(seen, s, -np.inf), axis=-1)
        golden.write_output(out, spec, causal, q, k, v, w @ v[0], parameters=parameters)
