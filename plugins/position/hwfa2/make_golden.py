#!/usr/bin/python3
# Golden values of HWFA2: window layers, full layers in training and after it, in numpy.
import os
import sys

import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
import make_golden_case as golden

with open(os.path.join(here, "golden.csv"), "w") as out:
    out.write("# written by make_golden.py with numpy\n")
    d, n, length, layers = 4, 12, 8, 6
    q, k = golden.rows(51, n, d), golden.rows(52, n, d)
    r, theta = golden.distances(n, n), golden.frequencies(d)
    rope = golden.turned(q, k, r[..., None] * theta)
    rerope = golden.turned(q, k, np.clip(r, -4, 4)[..., None] * theta)
    window = np.where(np.abs(r) < 3 * length // layers, rope, np.nan)
    log_n = np.maximum(1, np.log(np.arange(1, n + 1)) / np.log(length))[:, None]
    for layer, training, scores, spec in (
        (0, 0, window, "hwfa2"), (2, 0, rerope, "hwfa2"), (2, 1, rope, "hwfa2"), (3, 1, window, "hwfa2"), (4, 0, rerope, "hwfa2"),
        (4, 0, log_n * rerope, "hwfa2{log_n=true}"), (3, 0, rerope, "hwfa2{n_full=1}"),
    ):
        golden.write(out, spec, True, 0, length, q, k, np.stack([scores] * 2), context={"layer_index": layer, "n_layers": layers, "training": training})
