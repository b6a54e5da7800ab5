"""A dataset that Borel made, read by h5py; and one that h5py made, read by Borel.

usage: h5py_test.py <borel program> <scratch folder>
"""

import os
import shutil
import subprocess
import sys

import h5py
import numpy as np

program, folder = sys.argv[1:]
shutil.rmtree(folder, ignore_errors=True)
os.makedirs(folder)
environment = dict(os.environ, BOREL_DATA=folder)


def borel(*arguments, expect=0):
    done = subprocess.run([program, "data", *arguments], env=environment, capture_output=True, text=True)
    assert done.returncode == expect, (arguments, done.returncode, done.stdout, done.stderr)
    return done.stdout + done.stderr


borel("make", "marron_wand_10", "problem_markowitz", "--again")
with h5py.File(os.path.join(folder, "marron_wand_10.h5")) as file:
    assert file.attrs["borel_schema"] == "samples/1"
    x, weight = file["x"][...], file["truth/weight"][...]
    assert x.shape == (10000, 1) and x.dtype == np.float64
    assert abs(weight.sum() - 1) < 1e-12
    assert file["x"].compression == "gzip" and file["x"].fletcher32 and file["x"].shuffle
    assert abs(x.mean()) < 0.05 and abs(file["truth"].attrs["entropy_nats"] - 1.192764) < 1e-6
with h5py.File(os.path.join(folder, "problem_markowitz.h5")) as file:
    p, covariance, mean = (file[name][...] for name in ("truth/p", "covariance", "mean"))
    value = 0.5 * p @ covariance @ p - file.attrs["risk_tolerance"] * mean @ p
    assert abs(value - file.attrs["optimum"]) < 1e-14

# h5py's way of writing: other layout, no digest yet. Borel says what is missing, then what the digest should be.
path = os.path.join(folder, "own.h5")
with h5py.File(path, "w") as file:
    file["x"] = np.arange(6.0).reshape(6, 1)
    for name in ("id", "title", "source", "licence"):
        file.attrs[name] = "own"
    file.attrs["borel_schema"] = "samples/1"
    file.attrs["seed"] = 0
assert "content_digest" in borel("verify", path, expect=2)
with h5py.File(path, "a") as file:
    file.attrs["content_digest"] = "sha256:0"
message = borel("verify", path, expect=2)
found = message.split("its values give ")[1].split(";")[0]
with h5py.File(path, "a") as file:
    file.attrs["content_digest"] = found
assert "good" in borel("verify", path)

np.save(os.path.join(folder, "a.npy"), np.asfortranarray(np.ones((3, 2))))
assert "Fortran order" in borel("import", "mine", os.path.join(folder, "a.npy"), "--kind", "samples", expect=2)
np.save(os.path.join(folder, "a.npy"), np.arange(6, dtype=">i4").reshape(3, 2))
borel("import", "mine", os.path.join(folder, "a.npy"), "--kind", "samples", "--title", "six numbers")
borel("export", "mine", "-o", os.path.join(folder, "out"))
assert (np.load(os.path.join(folder, "out", "x.npy")) == np.arange(6.0).reshape(3, 2)).all()
assert "did you mean 'galaxies'?" in borel("make", "galaxis", expect=2)
