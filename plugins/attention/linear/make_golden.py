#!/usr/bin/python3
# Golden values of linear attention: feature maps in numpy, quadratic form with the sum of each row.
import os
import sys

import numpy as np
from scipy.special import softmax

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
import make_golden_case as golden

features = {
    "elu1": lambda x: np.where(x > 0, x + 1, np.exp(np.minimum(x, 0))),
    "relu": lambda x: np.maximum(x, 0),
    "exp": np.exp,
    "softmax_dim": lambda x: softmax(x, axis=-1),
    "square": np.square,
}

with open(os.path.join(here, "golden.csv"), "w") as out:
    out.write("# written by make_golden.py with numpy and scipy\n")
    for seed, feature in enumerate(features):
        epsilon = 0 if feature == "exp" else 1e-6
        for causal in (True, False):
            q, k, v = golden.inputs(300 + 2 * seed + causal, 2, 1, 5, 6, 4, 3)
            s, seen, _ = golden.scores(features[feature](q), features[feature](k), causal)
            w = np.where(seen, s, 0)
            golden.write(out, f"linear{{feature={feature}}}", causal, q, k, v, w / (w.sum(-1, keepdims=True) + epsilon))
