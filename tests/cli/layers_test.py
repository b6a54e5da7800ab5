#!/usr/bin/env python3
"""scripts/check_layers accepts this tree and finds each planted offence."""
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "check_layers"

PLANTED = [
    ("plugins/attention/x/x.cpp", '#include "loader/plugin_set.hpp"', "plugins include public"),
    ("plugins/attention/x/x.cpp", "#include <hdf5.h>", "plugins include public"),
    ("plugins/attention/x/x.cpp", "#include <thread>", "never print, exit"),
    ("plugins/attention/x/x.cpp", 'void f() { printf("x"); }', "printf"),
    ("plugins/attention/x/x.cpp", "void f() { std::cout << 1; }", "std::cout"),
    ("plugins/attention/x/x.cpp", "void f() { std::exit(1); }", "std::exit"),
    ("plugins/attention/x/x.cpp", "std::mt19937 g;", "borel::Rng"),
    ("plugins/attention/x/x.cpp", "void f() { tbb::parallel_for(0, 1, g); }", "tbb::"),
    ("plugins/attention/CMakeLists.txt", "target_link_libraries(a PRIVATE hdf5::hdf5)", "link no HDF5"),
    ("framework/include/borel/x.hpp", "#include <fmt/format.h>", "public headers include"),
    ("framework/src/sdk/x.cpp", "#include <nlohmann/json.hpp>", "libborel"),
    ("apps/borel/x.cpp", '#include "plugins/attention/x/x.hpp"', "through the loader"),
    ("tests/unit/x.cpp", '#include "../../plugins/x.hpp"', "through the loader"),
]
HARMLESS = [
    ("plugins/attention/x/x.cpp", "// std::cout and printf( in a comment"),
    ("plugins/attention/x/x.cpp", 'const char* doc = "std::exit(1) in a text";'),
    ("plugins/attention/x/x.cpp", "#include <vector>\n#include \"borel/plugin.hpp\""),
]


def run(root):
    return subprocess.run([sys.executable, SCRIPT, root], capture_output=True, text=True)


def run_with(path, text):
    with tempfile.TemporaryDirectory() as folder:
        for filler in ("plugins/a.cpp", path):
            file = pathlib.Path(folder) / filler
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text + "\n" if filler == path else "\n")
        return run(folder)


failures = 0
here = run(ROOT)
if here.returncode != 0:
    print(here.stdout, here.stderr)
    failures += 1
for path, text, expected in PLANTED:
    result = run_with(path, text)
    if result.returncode != 1 or expected not in result.stdout or f"{path}:1:" not in result.stdout:
        print(f"not found: {text!r} in {path}; output: {result.stdout}{result.stderr}")
        failures += 1
for path, text in HARMLESS:
    result = run_with(path, text)
    if result.returncode != 0:
        print(f"wrongly refused: {text!r}; output: {result.stdout}{result.stderr}")
        failures += 1
print(f"{len(PLANTED) + len(HARMLESS) + 1} cases, {failures} failures")
sys.exit(1 if failures else 0)
