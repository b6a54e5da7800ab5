#!/usr/bin/python3
"""Golden values of density/autoregressive in one dimension, where it is the method `of`: normal and kernel density by scipy.
In several dimensions see tests/unit/density_protocols_test.cpp: the multivariate normal. python3 make_golden.py > golden.csv
"""
import numpy as np
from scipy import stats

rng = np.random.default_rng(23)
x = np.round(rng.gamma(3, 1.5, 60), 6)
print("# From make_golden.py: scipy.stats.")
for spec, pdf, cdf in [
        ("gmm{n_components=1}", lambda u: stats.norm.pdf(u, x.mean(), x.std()), lambda u: stats.norm.cdf(u, x.mean(), x.std())),
        ("kde{bandwidth=value, h=0.7}", lambda u: stats.norm.pdf(u, x, 0.7).mean(), lambda u: stats.norm.cdf(u, x, 0.7).mean())]:
    print(f"spec;autoregressive{{of={spec}}}")
    for value in x:
        print(f"sample;{value!r};1.0")
    for at in [-1.0, 1.5, 4.0, 9.0]:
        print(f"log_pdf;{at};{float(np.log(pdf(at)))!r};1e-8")
        print(f"cdf;{at};{float(cdf(at))!r};1e-8")
