#!/usr/bin/python3
# Golden values of StreamingLLM: the cache is kept as a list of tokens, positions are places in it, in numpy.
import os
import sys

import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
import make_golden_case as golden

with open(os.path.join(here, "golden.csv"), "w") as out:
    out.write("# written by make_golden.py with numpy\n")
    d, n = 6, 12
    q, k = golden.rows(45, n, d), golden.rows(46, n, d)
    theta = golden.frequencies(d)
    for spec, sinks, window, train in (("streaming{n_sinks=2, window=3}", 2, 3, 0), ("streaming{n_sinks=0, window=4}", 0, 4, 0), ("streaming", 4, 3, 7)):
        scores = np.full((n, n), np.nan)
        for i in range(n):
            cache = list(range(i + 1))
            if len(cache) > sinks + window:
                cache = cache[:sinks] + cache[-window:]
            for slot, j in enumerate(cache):
                turn = (len(cache) - 1 - slot) * theta
                scores[i, j] = golden.rotate(q[i : i + 1], turn[None, :])[0] @ k[j]
        golden.write(out, spec, True, 0, train, q, k, np.stack([scores] * 2))
