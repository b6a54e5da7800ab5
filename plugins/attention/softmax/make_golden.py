#!/usr/bin/python3
# Golden values of softmax attention: scipy's softmax on the formulas at the top of softmax.cpp.
import os
import sys

import numpy as np
from scipy.special import softmax

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
import make_golden_case as golden

with open(os.path.join(here, "golden.csv"), "w") as out:
    out.write("# written by make_golden.py with numpy and scipy\n")
    for seed, (spec, causal) in enumerate([("softmax", True), ("softmax", False), ("softmax{softcap=1.5, scale=2}", True),
                                           ("softmax{log_n=train, log_n_length=4}", True),
                                           ("softmax{log_n=clip, log_n_length=4}", False),
                                           ("softmax{sink=fixed, sink_logit=0.75}", True)]):
        q, k, v = golden.inputs(seed, 2, 1, 5, 6, 4, 3)
        s, seen, n = golden.scores(q, k, causal)
        s = s * (2 if "scale=2" in spec else 0.5)
        if "train" in spec:
            s = s * np.log(n) / np.log(4)
        if "clip" in spec:
            s = s * np.maximum(1, np.log(n) / np.log(4))
        if "softcap" in spec:
            s = 1.5 * np.tanh(s / 1.5)
        sink = np.full(s.shape[:2] + (1,), 0.75 if "sink" in spec else -np.inf)
        w = softmax(np.concatenate([np.where(seen, s, -np.inf), sink], axis=-1), axis=-1)[..., :-1]
        golden.write(out, spec, causal, q, k, v, w)
