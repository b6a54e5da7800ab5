#!/usr/bin/python3
# Golden values of YaRN, ramps of the paper and of the published code, in numpy.
import os
import sys

import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
import make_golden_case as golden

def code_mask(dim, base, length, beta_fast, beta_slow):
    """The published program: ramp over the index of the pair between two rounded dimensions."""
    dimension = lambda turns: (dim * np.log(length / (turns * 2 * np.pi))) / (2 * np.log(base))
    low = max(np.floor(dimension(beta_fast)), 0)
    high = min(np.ceil(dimension(beta_slow)), dim - 1)
    ramp = np.clip((np.arange(dim // 2) - low) / (high - low), 0, 1)
    return 1 - ramp


with open(os.path.join(here, "golden.csv"), "w") as out:
    out.write("# written by make_golden.py with numpy\n")
    d, n, s, length = 64, 4, 8.0, 512
    q, k = golden.rows(25, n, d), golden.rows(26, n, d)
    r, theta = golden.distances(n, n, 9)[..., None], golden.frequencies(d)
    turns = length * theta / (2 * np.pi)
    paper = np.clip((turns - 1) / (32 - 1), 0, 1)
    code = code_mask(d, 1e4, length, 32, 1)
    angle = lambda kept: (1 - kept) * theta / s + kept * theta
    # Figures of the research notes: up to 58 % apart, at pair 11.
    apart = np.abs(angle(code) / angle(paper) - 1)
    assert 0.5 < apart.max() < 0.65 or 0.5 < np.abs(angle(paper) / angle(code) - 1).max() < 0.65
    for spec, kept, temperature in (
        ("yarn{scale=8}", code, (0.1 * np.log(s) + 1) ** 2),
        ("yarn{scale=8, ramp=paper}", paper, (0.1 * np.log(s) + 1) ** 2),
        ("yarn{scale=8, temperature=false}", code, 1.0),
    ):
        golden.write(out, spec, True, 9, length, q, k, np.stack([temperature * golden.turned(q, k[:4], r * angle(kept))] * 2))
