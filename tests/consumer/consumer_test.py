#!/usr/bin/env python3
"""Out of tree, against the install tree: borel new -> configure -> build -> ctest (borel check) -> list and info."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

family, prefix, compiler, sanitize, cmake = sys.argv[1:6]
borel = pathlib.Path(prefix) / "bin" / "borel"
# Names that the SDK has types for, which the generated class must not hide.
name = {"attention": "budget", "position": "band", "density": "samples", "optimizer": "trace", "problem": "domain"}[family]
LIMIT_S = 120  # the whole way, from nothing to a checked plugin


def run(*command, expect=0):
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, cwd=folder, env=environment)
    if result.returncode != expect:
        sys.exit(f"{' '.join(map(str, command))}\nexit code {result.returncode}, expected {expect}\n{result.stdout}{result.stderr}")
    return result


environment = {key: value for key, value in os.environ.items() if not key.startswith("BOREL_")}
with tempfile.TemporaryDirectory() as folder:
    start = time.monotonic()
    project = pathlib.Path(folder) / name
    run(borel, "new", family, name)
    assert sorted(p.name for p in project.iterdir()) == ["CMakeLists.txt", "README.md", f"{name}.cpp"]
    assert "@" not in (project / f"{name}.cpp").read_text(), "a placeholder was left"
    flags = f"-fsanitize={sanitize} -fno-sanitize-recover=all" if sanitize else "-Wall -Wextra -Wpedantic -Wshadow -Werror"
    run(cmake, "-S", project, "-B", project / "build", f"-DCMAKE_PREFIX_PATH={prefix}", f"-DCMAKE_CXX_COMPILER={compiler}",
        f"-DCMAKE_CXX_FLAGS={flags}")
    run(cmake, "--build", project / "build")
    run("ctest", "--test-dir", project / "build", "--output-on-failure", "--no-tests=error")
    plugin = project / "build" / "plugins" / f"{family}.{name}.so"
    checked = json.loads(run(borel, "check", plugin, "--json").stdout)
    assert checked["broken"] == 0 and checked["kept"] >= 6, checked
    methods = json.loads(run(borel, "--plugin-path", plugin.parent, "list", "--json").stdout)["methods"]
    mine = [m for m in methods if (m["family"], m["id"]) == (family, name)]
    assert len(mine) == 1 and mine[0]["plugin_file"] == str(plugin) and mine[0]["traits"], mine
    assert "Parameters" in run(borel, "--plugin-path", plugin.parent, "info", f"{family}/{name}").stdout
    if family == "problem":  # it stands where a dataset stands
        (pathlib.Path(folder) / "study.toml").write_text(
            'title = "A problem of my own"\n[timing]\nenabled = false\n[[compare]]\nprotocol = "optimizer.convergence"\n'
            f'datasets = ["problem/{name}", "problem/{name}{{n=5}}"]\nmethods = ["projected_gradient", "frank_wolfe"]\n')
        done = run(borel, "--plugin-path", plugin.parent, "run", "study.toml", "--out", "run")
        assert "12 cells: 12 ok" in done.stdout, done.stdout
        again = run(borel, "--plugin-path", plugin.parent, "run", "study.toml", "--out", "run")
        assert "all 12 cells are done" in again.stdout, again.stdout
        (pathlib.Path(folder) / "wrong.toml").write_text(
            (pathlib.Path(folder) / "study.toml").read_text().replace("n=5", "assets=5"))
        wrong = run(borel, "--plugin-path", plugin.parent, "run", "wrong.toml", expect=2)
        assert "assets" in wrong.stderr and "wrong.toml:" in wrong.stderr, wrong.stderr
    seconds = time.monotonic() - start
    if not sanitize:
        assert seconds <= LIMIT_S, f"{seconds:.0f} s"
    run(borel, "new", family, name, expect=2)  # the folder is not empty any more
    run(borel, "new", "atention", name, expect=2)
    run(borel, "new", family, "MyIdea", expect=2)
    print(f"{family}: {checked['kept']} rules kept, {seconds:.1f} s")
