#!/usr/bin/python3
"""Borel's density estimators against scikit-learn, SciPy and R on the same samples, one thread each, ratios in one run.

bench/peers/density_peers.py [build folder]      needs python3-sklearn python3-scipy r-base-core (Debian); --install asks apt
"""
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"
if "--install" in sys.argv:
    sys.argv.remove("--install")
    subprocess.run(["apt-get", "install", "-y", "--no-install-recommends", "python3-sklearn", "python3-scipy", "r-base-core"],
                   check=True)
import numpy as np
from scipy import stats
from sklearn.mixture import GaussianMixture

build = sys.argv[1] if len(sys.argv) > 1 else "build"
os.sched_setaffinity(0, {0})  # everything below inherits it: one core, hence one thread


def borel(folder):
    run = subprocess.run([os.path.join(build, "bin", "borel_density_bench"), "--benchmark_format=json",
                          "--benchmark_filter=k10|grid|fourier_64", "--benchmark_min_time=0.5"],
                         env={**os.environ, "BOREL_BENCH_DATA": folder}, capture_output=True, text=True, check=True)
    return {b["name"]: b for b in json.loads(run.stdout)["benchmarks"]}


def clock(work):
    start = time.perf_counter()
    result = work()
    return 1e3 * (time.perf_counter() - start), result


with tempfile.TemporaryDirectory() as folder:
    ours = borel(folder)
    x = np.fromfile(os.path.join(folder, "claw.f64"))
    print(f"{'task':46} {'borel ms':>10} {'peer ms':>10} {'ratio':>8}  reached")

    b = ours["fit/gmm_k10_n1e5"]
    peer = GaussianMixture(10, tol=0, max_iter=178, random_state=0)
    warnings.simplefilter("ignore")  # 178 steps asked for, no convergence wanted
    ms, fitted = clock(lambda: peer.fit(x[:100000, None]))
    print(f"{'gmm K=10, 1e5; 60 steps, sklearn 178 EM steps':46} {b['real_time']:10.1f} {ms:10.1f} {ms / b['real_time']:8.1f}  "
          f"mean log-likelihood {b['mean_log_likelihood']:.6f}, sklearn {fitted.score(x[:100000, None]):.6f}")

    b = ours["kde_off_grid"]
    at = -4 + 8 * (np.arange(10000) + 0.37) / 10000
    ms, density = clock(lambda: stats.gaussian_kde(x[:100000])(at))
    print(f"{'kde 1e5 samples at 1e4 points; scipy':46} {b['real_time']:10.2f} {ms:10.1f} {ms / b['real_time']:8.0f}  "
          f"max error of log density {b['max_log_density_error']:.1e} where p > 1e-10 max p")

    b = ours["kde_on_grid"]
    script = (f'x <- readBin("{folder}/claw.f64", "double", 1e6); t <- sapply(1:5, function(i) '
              'system.time(density(x, n = 16384))[["elapsed"]]); d <- density(x, n = 16384); '
              'cat(median(t), log(approx(d$x, d$y, 0)$y))')
    seconds, log_p = subprocess.run(["Rscript", "-e", script], capture_output=True, text=True, check=True).stdout.split()
    ms = 1e3 * float(seconds)
    print(f"{'kde 1e6 samples, grid of 16384; R density()':46} {b['real_time']:10.2f} {ms:10.1f} {ms / b['real_time']:8.1f}  "
          f"log density at 0: {b['log_density_at_0']:.4f}, R {float(log_p):.4f}")

    b = ours["fit/fourier_64_n1e6"]
    print(f"{'fourier, 64 frequencies, 1e6 samples':46} {b['real_time']:10.1f} {'-':>10} {'-':>8}  "
          f"mean log-likelihood {b['mean_log_likelihood']:.9f}")
