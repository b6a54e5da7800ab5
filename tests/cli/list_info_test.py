#!/usr/bin/env python3
"""borel list, info, usage errors: outputs, exit codes, start time."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

borel, fixtures = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
is_release = sys.argv[3] == "Release" and sys.argv[4] == ""
failures = []
START_LIMIT_S = 0.1  # list --json with all plugins
environment = {key: value for key, value in os.environ.items() if not key.startswith("BOREL_")}


def run(*arguments, **extra):
    return subprocess.run([str(borel), *map(str, arguments)], capture_output=True, text=True, timeout=120,
                          env={**environment, **extra}, cwd=tempfile.gettempdir())


def expect(name, condition, detail):
    print(("ok      " if condition else "FAILED  ") + name)
    if not condition:
        failures.append(name)
        print(detail)


plain = fixtures / "plain.so"

result = run("list", "--json")
listed = json.loads(result.stdout)
fields = {"family", "id", "summary", "formula", "source", "complexity", "notes", "deterministic", "plugin_file", "traits",
          "parameters"}
expect("list --json gives every field of every method",
       result.returncode == 0 and listed["methods"] and all(set(m) == fields for m in listed["methods"]), result)
expect("no plugin of this build is refused", listed["refused"] == [] and result.stderr == "", result)
protocols = listed["protocols"]
expect("list --json has every protocol with its options and metrics",
       {"density.fit", "attention.recall", "optimizer.convergence"} <= {p["id"] for p in protocols}
       and all(p["metrics"] and any(m["headline"] for m in p["metrics"]) and p["roles"] and p["summary"] for p in protocols),
       protocols)
lines = run("list", "protocol").stdout.splitlines()
expect("list protocol has one line a protocol", [l.split()[0] for l in lines] == [p["id"] for p in protocols], lines)
for protocol in protocols:
    text, data = run("info", protocol["id"]), json.loads(run("info", "protocol/" + protocol["id"], "--json").stdout)
    shown = all(word in text.stdout for word in [protocol["summary"], "of kind " + protocol["dataset_kind"]]
                + [m["name"] for m in protocol["metrics"]] + [o["name"] + " = " for o in protocol["options"]])
    expect(f"info {protocol['id']}", text.returncode == 0 and shown and data == protocol, text)
order = [(m["family"], m["id"]) for m in listed["methods"]]
expect("methods come in sorted order", order == sorted(order), order)

result = run("list")
expect("list has one line a method, uncut when piped",
       len(result.stdout.splitlines()) == len(listed["methods"])
       and all(m["source"] in result.stdout for m in listed["methods"]), result)
for family in sorted({m["family"] for m in listed["methods"]}):
    lines = run("list", family).stdout.splitlines()
    expect(f"list {family} shows that family only",
           len(lines) == sum(m["family"] == family for m in listed["methods"]) and all(l.startswith(family + "/") for l in lines),
           lines)

result = run("list", "--pairs", "--json")
pairs = json.loads(result.stdout)["pairs"]
ids = {f: [m["id"] for m in listed["methods"] if m["family"] == f] for f in ("attention", "position")}
expect("list --pairs --json has every pair of the registry",
       [(p["attention"], p["position"]) for p in pairs] == [(a, p) for a in ids["attention"] for p in ids["position"]], pairs)
expect("a pair works under some mask, or says why not",
       all((p["causal"] or p["bidirectional"]) == (p["reason"] == "") for p in pairs)
       and all(len(p["reason"]) > 20 for p in pairs if p["reason"]), pairs)
expect("softmax takes every encoding that serves text",
       all(p["causal"] for p in pairs if p["attention"] == "softmax"), pairs)
works = {(p["attention"], p["position"]): p["causal"] or p["bidirectional"] for p in pairs}
expect("schedules over layers are judged in all layers", not works["linear", "hwfa"] and works["softmax", "hwfa"], pairs)
for method in (m for m in listed["methods"] if m["family"] == "attention"):
    claim = method["traits"]["position"]
    seen = [works[method["id"], p] for p in ("rope", "alibi", "multi_base")]
    expect(f"the trait position of {method['id']} is what pairs with a rotation, a bias and an average show",
           claim == {(False, False, False): "none", (True, False, False): "rotation", (True, True, False): "any but averages",
                     (True, True, True): "any"}.get(tuple(seen)), (claim, seen))
    expect(f"{method['id']} names bytes of state if it can go on",
           (method["traits"]["state_bytes_n1024_d64"] == "-") == (method["traits"]["step"] == "no"), method["traits"])


def grid(*arguments):
    text = run("list", "--pairs", *arguments).stdout
    lines = text.splitlines()
    first = next(i for i, line in enumerate(lines) if line and line[0] != " ")
    rows = lines[first:lines.index("", first)]
    columns = {i: "".join(line[i] for line in lines[:first] if len(line) > i).strip()
               for i in range(len(rows[0])) if any(len(line) > i and line[i] != " " for line in lines[:first])}
    marks = {(row.split()[0], name): row[i] for row in rows for i, name in columns.items()}
    notes = dict(line.split("  ", 1) for line in lines[lines.index("", first) + 2:])
    return text, marks, notes


text, marks, notes = grid()
expect("list --pairs counts the pairs that work", f"{sum(works.values())} of {len(pairs)} pairs work" in text, text)
expect("list --pairs is a grid with every pair",
       {(p["attention"], p["position"]): p["reason"] or {(True, True): "under both masks", (True, False): "causal only",
                                                         (False, True): "bidirectional only"}[p["causal"], p["bidirectional"]]
        for p in pairs} == {pair: notes[mark] for pair, mark in marks.items()}, text)
expect("list --pairs says each reason once", len(set(notes.values())) == len(notes), text)
_, turned, notes_turned = grid("position")
expect("list --pairs position has encodings as rows",
       {(a, p): notes[m] for (a, p), m in marks.items()} == {(a, p): notes_turned[m] for (p, a), m in turned.items()}, turned)
result = run("list", "linear", "--pairs")
expect("list --pairs of one mechanism names its encodings, and the others by reason",
       result.stdout.startswith("attention/linear works with ") and all(p["position"] in result.stdout and p["reason"] in result.stdout
                                                                        for p in pairs if p["attention"] == "linear"), result)
one = json.loads(run("list", "position/xpos", "--pairs", "--json").stdout)["pairs"]
expect("list --pairs --json of one encoding has its pairs", one == [p for p in pairs if p["position"] == "xpos"], one)
for wrong, message in (("density", "--pairs"), ("kde", "--pairs"), ("softmacs", "did you mean 'attention/softmax'?")):
    result = run("list", "--pairs", wrong)
    expect(f"list --pairs {wrong} is refused", result.returncode == 2 and message in result.stderr, result)

if is_release:
    times = []
    for _ in range(9):
        start = time.monotonic()
        run("list", "--json")
        times.append(time.monotonic() - start)
    expect(f"list --json starts fast ({min(times) * 1000:.0f} ms)", min(times) <= START_LIMIT_S, times)

for method in listed["methods"]:
    path = f"{method['family']}/{method['id']}"
    text, data = run("info", path), json.loads(run("info", path, "--json").stdout)
    shown = all(word in text.stdout for word in [method["summary"], method["source"], "Parameters", "Traits", method["plugin_file"]]
                + [p["name"] + " = " for p in method["parameters"]] + [p["rule"] for p in method["parameters"]])
    expect(f"info {path}", text.returncode == 0 and shown and data == method, text)

for name, arguments, message in [
    ("no command", [], "subcommand is required"),
    ("unknown command", ["lits"], "no command named 'lits'; did you mean 'list'?"),
    ("unknown option", ["list", "--jsno"], "`borel list --help` shows the usage"),
    ("unknown family", ["list", "densty"], "no family named 'densty'; did you mean 'density'?"),
    ("unknown method", ["info", "density/histogramm"], "did you mean 'histogram'?"),
    ("unknown id without family", ["info", "histogramm"], "did you mean 'density/histogram'?"),
    ("unknown protocol", ["info", "density.fti"], "density.fit"),
    ("bad option of a protocol", ["info", "density.fit{nothing=1}"], "nothing"),
    ("bad parameter", ["--plugin-path", plain, "info", "fixture/plain{width=0}"], "must be a real number > 0; got '0'"),
    ("bad spec", ["info", "density/histogram{"], "column 19: expected a parameter name"),
    ("named plugin that is refused", ["--plugin-path", fixtures / "lies.so", "list"], "contradicts itself"),
    ("named plugin path that is missing", ["--plugin-path", fixtures / "absent", "list"], "does not exist"),
    ("empty item in the plugin path", ["--plugin-path", f"{plain}:", "list"], "an item of the list is empty"),
]:
    result = run(*arguments)
    expect(name + " is one message and exit code 2",
           result.returncode == 2 and message in result.stderr and result.stderr.count("\n") == 1
           and result.stderr.startswith("borel: error: ") and result.stdout == "", result)

result = run("--no-builtin-plugins", "--plugin-path", plain, "list")
expect("only the named plugin", result.stdout == "fixture/plain  A fixture  [own]\n" and result.returncode == 0, result)
result = run("list", "fixture", "--plugin-path", plain)
expect("global options may follow the command", result.stdout.startswith("fixture/plain"), result)
result = run("list", "fixture", BOREL_PLUGIN_PATH=str(plain))
expect("BOREL_PLUGIN_PATH adds plugins", result.stdout.startswith("fixture/plain"), result)
result = run("list", BOREL_PLUGIN_PATH=str(fixtures))
expect("refusals in a folder are remarks, not errors",
       result.returncode == 0 and result.stderr.count("borel: refused: ") >= 10, result)
result = run("--version")
expect("--version", result.returncode == 0 and result.stdout.startswith("borel "), result)
result = run("--help")
expect("--help lists the commands and hides the internal one",
       result.returncode == 0 and "info" in result.stdout and "check-worker" not in result.stdout, result)

print(f"{len(failures)} failures")
sys.exit(1 if failures else 0)
