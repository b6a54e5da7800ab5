#!/usr/bin/env python3
"""borel check: each way in which a plugin can misbehave is one broken rule, named, with a line that repeats it."""
import json
import os
import pathlib
import subprocess
import sys

borel, fixtures = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
failures = []


# A crash must end the child as a crash does, and exit() in the middle of a call as exit() does, also in a build with the
# address sanitizer.
environment = {**os.environ, "ASAN_OPTIONS": "handle_segv=0:detect_leaks=0:" + os.environ.get("ASAN_OPTIONS", "")}


def run(*arguments):
    return subprocess.run([str(borel), *map(str, arguments)], capture_output=True, text=True, timeout=120,
                          env=environment)


def expect(name, condition, detail):
    print(("ok      " if condition else "FAILED  ") + name)
    if not condition:
        failures.append(name)
        print(detail)


def check(fixture, *options):
    result = run("check", fixtures / f"{fixture}.so", "--json", *options)
    return result, json.loads(result.stdout) if result.stdout else None


def broken(report):
    return {r["rule"]: r["text"] for r in report["results"] if r["verdict"] == "broken"}


result, good = check("plain")
n_rules = len(good["results"])
expect("a good plugin keeps every rule", result.returncode == 0 and good["broken"] == 0 and n_rules >= 6, result)

result, report = check("crashes", "--spec", "plain{width=2}")
expect("a crash names the rule and the signal, and the other rules still run",
       result.returncode == 1 and list(broken(report)) == ["DescribesItsTraits"]
       and "signal 11" in broken(report)["DescribesItsTraits"] and len(report["results"]) == n_rules, report)

result, report = check("hangs", "--time-limit", "1")
expect("a hang is ended after the time limit",
       result.returncode == 1 and "no answer within 1 s" in broken(report).get("DescribesItsTraits", ""), report)

result, report = check("exits")
expect("a call of exit() is noticed",
       result.returncode == 1 and "was ended with exit code 0" in broken(report).get("DescribesItsTraits", ""), report)

result, report = check("prints")
expect("printing is a broken rule, with what was printed",
       result.returncode == 1 and "look at me" in broken(report).get("DescribesItsTraits", ""), report)

result, _ = check("deadly/crashes_at_load")
expect("a crash while loading is a refusal",
       result.returncode == 2 and "while it was loaded, the process died" in result.stderr, result)

result, _ = check("fast_math")
expect("a file that does not fit is refused before a child is started",
       result.returncode == 2 and "floating-point rules" in result.stderr, result)

result = run("check", fixtures / "crashes.so", "--spec", "plain{width=2}")
line = next((l for l in result.stdout.split("\n") if "Repeat: " in l), "")
expect("the text report says how to repeat", "--rule DescribesItsTraits --seed 1" in line and "plain{width=2}" in line, result)

result, report = check("crashes", "--spec", "fixture/plain{width=2}", "--rule", "DescribesItsTraits", "--seed", "1")
expect("repeating one rule breaks it again", result.returncode == 1 and len(report["results"]) == 1, report)

for name, options, message in [
    ("unknown rule", ["--rule", "DescribesItsTrait"], "did you mean 'DescribesItsTraits'?"),
    ("unknown method", ["--spec", "other"], "registers no method 'other'. It registers: fixture/plain"),
    ("bad parameter", ["--spec", "plain{width=-1}"], "parameter 'width' must be a real number > 0; got '-1'"),
    ("bad time limit", ["--time-limit", "0"], "--time-limit"),
]:
    result = run("check", fixtures / "plain.so", *options)
    expect(name + " is a usage error", result.returncode == 2 and message in result.stderr, result)

result = run("check", fixtures / "absent.so")
expect("a missing file is refused", result.returncode == 2 and "does not exist" in result.stderr, result)

print(f"{len(failures)} failures")
sys.exit(1 if failures else 0)
