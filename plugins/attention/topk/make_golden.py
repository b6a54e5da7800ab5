#!/usr/bin/python3
# Golden values of top-k softmax; the last case has ties at the k-th largest, which are all kept.
import os
import sys

import numpy as np
from scipy.special import softmax

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
import make_golden_case as golden

with open(os.path.join(here, "golden.csv"), "w") as out:
    out.write("# written by make_golden.py with numpy and scipy\n")
    for seed, (k_kept, causal, ties) in enumerate([(3, True, False), (3, False, False), (1, True, False), (4, False, True)]):
        q, k, v = golden.inputs(seed, 2, 1, 5, 9, 4, 3)
        if ties:
            k[:, 1::2] = k[:, 0:1]  # keys 0, 1, 3, 5, 7 are the same key
        s, seen, _ = golden.scores(q, k, causal)
        s = np.where(seen, s * 0.5, -np.inf)
        bound = np.sort(s, axis=-1)[..., -k_kept][..., None]  # -inf in rows with fewer keys
        golden.write(out, f"topk{{k={k_kept}}}", causal, q, k, v, softmax(np.where(s >= bound, s, -np.inf), axis=-1))
