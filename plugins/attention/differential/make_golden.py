#!/usr/bin/python3
# Golden values of differential attention in layer 1 (layer_index 0).
import os
import sys

import numpy as np
from scipy.special import softmax

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
import make_golden_case as golden

with open(os.path.join(here, "golden.csv"), "w") as out:
    out.write("# written by make_golden.py with numpy and scipy\n")
    for seed, (spec, causal) in enumerate([("differential", True), ("differential{norm=none}", False)]):
        q, k, v = golden.inputs(seed, 2, 1, 5, 6, 8, 3)
        rng = np.random.default_rng(200 + seed)
        lam = {name: golden.rounded(rng.normal(size=4) * 0.3) for name in ("lambda_q1", "lambda_k1", "lambda_q2", "lambda_k2")}
        lambda_init = 0.8 - 0.6 * np.exp(-0.3 * 0)
        l = np.exp(lam["lambda_q1"] @ lam["lambda_k1"]) - np.exp(lam["lambda_q2"] @ lam["lambda_k2"]) + lambda_init
        maps = []
        for half in (slice(0, 4), slice(4, 8)):
            s, seen, _ = golden.scores(q[..., half], k[..., half], causal)
            maps.append(softmax(np.where(seen, s / 2, -np.inf), axis=-1))
        o = (maps[0] - l * maps[1]) @ v[0]
        if "none" not in spec:
            lam["gain"] = golden.rounded(rng.normal(size=3))
            o = (1 - lambda_init) * lam["gain"] * o / np.sqrt((o ** 2).mean(axis=-1, keepdims=True) + 1e-5)
        golden.write_output(out, spec, causal, q, k, v, o, parameters=lam)
