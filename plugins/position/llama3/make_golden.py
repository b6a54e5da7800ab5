#!/usr/bin/python3
# Golden values of the Llama 3.1 frequencies, by wavelengths as in the published program, in numpy.
import os
import sys

import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
import make_golden_case as golden

def scaled(theta, length, factor, low, high):
    wavelength = 2 * np.pi / theta
    if wavelength < length / high:
        return theta
    if wavelength > length / low:
        return theta / factor
    smooth = (length / wavelength - low) / (high - low)
    return (1 - smooth) * theta / factor + smooth * theta


with open(os.path.join(here, "golden.csv"), "w") as out:
    out.write("# written by make_golden.py with numpy\n")
    d, n = 16, 5
    q, k = golden.rows(29, n, d), golden.rows(30, n, d)
    r = golden.distances(n, n)[..., None]
    for spec, length, base in (("llama3", 8192, 5e5), ("llama3{theta_base=10000, factor=4}", 64, 1e4)):
        factor = 4.0 if "factor" in spec else 8.0
        angle = np.array([scaled(theta, length, factor, 1.0, 4.0) for theta in golden.frequencies(d, base)])
        golden.write(out, spec, True, 0, length, q, k, np.stack([golden.turned(q, k, r * angle)] * 2))
