#!/usr/bin/python3
# Golden values of linformer: equation 7 in numpy and scipy.
import os
import sys

import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
import make_golden_case as golden

from scipy.special import softmax

with open(os.path.join(here, "golden.csv"), "w") as out:
    out.write("# written by make_golden.py with numpy and scipy\n")
    for seed, sharing in enumerate(["heads", "none", "key_value"]):
        q, k, v = golden.inputs(680 + seed, 2, 1, 5, 6, 4, 3)
        rng = np.random.default_rng(690 + seed)
        shape = (2, 3, 6) if sharing == "none" else (3, 6)
        p = {"key_projection": golden.rounded(rng.normal(size=shape))}
        if sharing != "key_value":
            p["value_projection"] = golden.rounded(rng.normal(size=shape))
        e, f = p["key_projection"], p.get("value_projection", p["key_projection"])
        of = lambda x, h: x[h] if sharing == "none" else x
        o = np.stack([softmax(q[h] @ (of(e, h) @ k[0]).T / 2, axis=-1) @ (of(f, h) @ v[0]) for h in range(2)])
        golden.write_output(out, f"linformer{{rank=3, sharing={sharing}}}", False, q, k, v, o, {}, p)
