"""Runs of the borel program, for tests."""
import json
import os
import pathlib
import subprocess
import tomllib
import zlib

# Small, quick, and with cells of very different length: what a killed run must survive. Real data and problems.
STUDY = """
title = "Small study"
repetitions = 3
seed = 11

[timing]
rounds = 2
max_task_s = 0.02

[[compare]]
protocol = "optimizer.convergence"
datasets = ["problem_npmle_galaxies", "problem_sparsemax"]
methods = ["projected_gradient", {id = "frank_wolfe", variant = ["line_search", "pairwise"]}, "exponentiated_gradient"]
options = {max_iterations = [20, 300]}

[[compare]]
protocol = "attention.concentration"
datasets = ["gaussian_qk_d64"]
methods = ["softmax", "relu2", "linear"]
positions = ["none", "alibi"]
options = {n_keys = 512, n_rank = 32}
"""


class Program:
    def __init__(self, path, data):
        self.path = str(path)
        self.environment = dict(os.environ, BOREL_DATA=str(data), NO_COLOR="1")
        self.environment.pop("BOREL_PLUGIN_PATH", None)

    def start(self, *arguments, cwd=None):
        return subprocess.Popen([self.path, *map(str, arguments)], env=self.environment, cwd=cwd, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def run(self, *arguments, expect=0, cwd=None, timeout=300):
        done = subprocess.run([self.path, *map(str, arguments)], env=self.environment, cwd=cwd, text=True,
                              capture_output=True, timeout=timeout)
        if expect is not None and done.returncode != expect:
            raise AssertionError(f"borel {' '.join(map(str, arguments))}: exit code {done.returncode}, expected "
                                 f"{expect}\n--- stdout\n{done.stdout}\n--- stderr\n{done.stderr}")
        return done


def journal_records(run):
    """Complete records of a journal, each with its checksum verified. A torn last line is left out."""
    lines = (pathlib.Path(run) / "journal.jsonl").read_bytes().split(b"\n")
    records = []
    for line in lines[:-1]:
        outer = json.loads(line)
        text = line[len(b'{"crc32":"00000000","record":'):-1]
        assert f"{zlib.crc32(text):08x}" == outer["crc32"], line[:100]
        records.append(outer["record"])
    return records


def quality_files(run):
    """Everything in csv/ that must not depend on machine, threads, shards or interruptions."""
    folder = pathlib.Path(run) / "csv"
    files = {file.name: file.read_bytes() for file in sorted(folder.glob("*.csv"))
             if file.name not in ("cells.csv", "timings.csv")}
    assert len(files) >= 2, f"{folder} holds {sorted(files)}"
    return files


def toml_value(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    if isinstance(value, str):
        return json.dumps(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def reversed_value(value):
    if isinstance(value, dict):
        return {key: reversed_value(value[key]) for key in reversed(value)}
    return [reversed_value(item) for item in reversed(value)] if isinstance(value, list) else value


def reversed_study(text):
    """The same study with all its tables, keys and lists in the opposite order."""
    study = reversed_value(tomllib.loads(text))
    comparisons = study.pop("compare")
    tables = {key: study.pop(key) for key in list(study) if isinstance(study[key], dict)}
    lines = [f"{key} = {toml_value(value)}" for key, value in study.items()]
    for comparison in comparisons:
        lines += ["[[compare]]"] + [f"{key} = {toml_value(value)}" for key, value in comparison.items()]
    for name, table in tables.items():
        lines += [f"[{name}]"] + [f"{key} = {toml_value(value)}" for key, value in table.items()]
    return "\n".join(lines) + "\n"
