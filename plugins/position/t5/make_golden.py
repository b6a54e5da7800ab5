#!/usr/bin/python3
# Golden values of the T5 bias: buckets in exact integer arithmetic, in Python.
import os
import sys

import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
import make_golden_case as golden

def bucket(distance, n_buckets, largest):
    """The bucket of a distance >= 0: floor(log) without floating point. e + t is reached when (distance / e)^(B - e) >= (D / e)^t."""
    exact = n_buckets // 2
    if distance < exact:
        return distance
    t = 0
    while t + 1 < n_buckets - exact and distance ** (n_buckets - exact) * exact ** (t + 1) >= largest ** (t + 1) * exact ** (n_buckets - exact):
        t += 1
    return exact + t


with open(os.path.join(here, "golden.csv"), "w") as out:
    out.write("# written by make_golden.py with numpy\n")
    d, n, heads = 4, 140, 2
    q, k = golden.rows(61, 3, d), golden.rows(62, n, d)
    assert [bucket(r, 32, 128) for r in (0, 7, 15, 16, 18, 19, 20, 64, 112, 113, 10**6)] == [0, 7, 15, 16, 16, 17, 17, 26, 30, 31, 31]
    table = golden.rows(63, heads, 32)
    r = golden.distances(3, n, n - 3)
    causal = [bucket(max(int(x), 0), 32, 128) for x in r.ravel()]
    both = [bucket(abs(int(x)), 16, 128) + (16 if x < 0 else 0) for x in golden.distances(3, n, 70).ravel()]
    score = lambda h, places, scale: scale * (q @ k.T) + table[h, places].reshape(3, n)
    golden.write(out, "t5", True, n - 3, 0, q, k, np.stack([score(h, causal, 2.0) for h in range(heads)]), parameters=(table,))
    golden.write(out, "t5{unscaled=false}", False, 70, 0, q, k, np.stack([score(h, both, 1.0) for h in range(heads)]), parameters=(table,))
