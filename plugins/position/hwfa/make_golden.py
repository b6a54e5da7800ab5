#!/usr/bin/python3
# Golden values of HWFA: window layers and the last layer, in numpy.
import os
import sys

import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
import make_golden_case as golden

with open(os.path.join(here, "golden.csv"), "w") as out:
    out.write("# written by make_golden.py with numpy\n")
    d, n, length, layers = 4, 12, 11, 4
    q, k = golden.rows(49, n, d), golden.rows(50, n, d)
    r = golden.distances(n, n)
    rope = golden.turned(q, k, r[..., None] * golden.frequencies(d))
    # (w - 1)(layers - 1) + 1 <= alpha L: the largest such w.
    w = max(w for w in range(1, 12) if (w - 1) * (layers - 1) + 1 <= 0.75 * length)
    last = np.maximum(1, np.log(np.arange(1, n + 1)) / np.log(length))[:, None] * (q @ k.T)
    for layer, scores in ((0, np.where(np.abs(r) < w, rope, np.nan)), (2, np.where(np.abs(r) < w, rope, np.nan)), (3, last)):
        golden.write(out, "hwfa", True, 0, length, q, k, np.stack([scores] * 2), context={"layer_index": layer, "n_layers": layers})
    golden.write(out, "hwfa{window=4}", False, 0, length, q, k, np.stack([np.where(np.abs(r) < 4, rope, np.nan)] * 2), context={"layer_index": 0, "n_layers": 2})
