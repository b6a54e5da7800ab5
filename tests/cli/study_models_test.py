"""Networks that a study trains: [[model]] tables, kill -9 in between, layer schedules, and their queries and keys as data.

usage: study_models_test.py <borel>
"""
import csv
import json
import pathlib
import shutil
import signal
import sys
import tempfile

from borel_runs import Program

CONFIG = """
dataset = "{text}"
layers = 2
width = 32
heads = 2
feed_forward_width = 32
length = 64
steps = 150
batch = 4
chunk = 2
warmup = 5
learning_rate = 0.01
position = "rope"
"""

STUDY = """
repetitions = 1
[timing]
enabled = false

[[model]]
name = "plain"
config = "train/small.toml"

[[model]]
name = "scheduled"
config = "train/small.toml"
position = ["window{window=16}", "none"]

[[compare]]
protocol = "position.extrapolation"
datasets = ["model/plain", "model/scheduled"]
methods = ["rope", "none"]
options = { factors = [1, 2], n_windows = 2, n_keys = 1 }

[[compare]]
protocol = "attention.concentration"
datasets = ["qkv{model=model/plain, layer=1}"]
methods = ["softmax"]
positions = ["rope"]
"""


def digest(program, file):
    return next(line.split()[1] for line in program.run("data", "info", file).stdout.split("\n") if "digest" in line)


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        text = folder / "text.txt"
        text.write_text("".join(f"{i} bottles stand on the wall, and {i * 7 % 11} fall. " for i in range(900)))
        (folder / "train").mkdir()
        (folder / "train" / "small.toml").write_text(CONFIG.format(text=folder / "text.h5"))
        study = folder / "study.toml"
        study.write_text(STUDY)
        programs = {}
        for data in ("whole", "torn", "fresh", "late"):
            (folder / data).mkdir()
            programs[data] = Program(sys.argv[1], folder / data)
        programs["whole"].run("data", "import", folder / "text.h5", text, "--kind", "tokens")

        refused = programs["whole"].run("run", study, "--out", folder / "run", expect=2)
        assert "network 'plain' is not trained yet" in refused.stderr, refused.stderr
        assert f"borel data make --for {study}" in refused.stderr, refused.stderr

        made = programs["whole"].run("data", "make", "--for", study).stdout
        assert "network 'plain', 1 of 2" in made and "network 'scheduled', 2 of 2" in made, made
        again = programs["whole"].run("data", "make", "--for", study).stdout
        assert again.count("was there") == 2 and "network" not in again, again
        files = sorted((folder / "whole" / "models").glob("*.h5"))
        assert len(files) == 2, files

        # A limit of time goes on next time, and so does a killed program: the same bits.
        torn = folder / "torn" / "models"
        for _ in range(5):
            shutil.rmtree(torn, ignore_errors=True)
            limited = programs["torn"].run("data", "make", "--for", study, "--time-limit", "0.01").stdout
            assert "time limit reached" in limited, limited
            process = programs["torn"].start("data", "make", "--for", study)
            while "bits/byte" not in (process.stdout.readline() or "bits/byte"):
                pass
            process.send_signal(signal.SIGKILL)
            process.communicate()
            if process.returncode == -signal.SIGKILL:
                break
        else:
            raise AssertionError("the training ended before it could be killed, five times")
        programs["torn"].run("data", "make", "--for", study)
        for file in files:
            assert digest(programs["whole"], file) == digest(programs["torn"], torn / file.name), file.name

        programs["whole"].run("run", study, "--out", folder / "run", "--quiet")
        with open(folder / "run" / "csv" / "position.extrapolation.csv") as table:
            rows = {(row["dataset"], row["label"]): row for row in csv.DictReader(table)}
        assert {key for key, row in rows.items() if row["outcome"] == "ok"} == {
            (f"model/{model}", method) for model in ("plain", "scheduled") for method in ("rope", "none")}, rows
        assert float(rows["model/plain", "rope"]["tax"]) == 0, rows
        with open(folder / "run" / "csv" / "attention.concentration.csv") as table:
            row = next(csv.DictReader(table))
        assert row["dataset"] == "qkv{model=model/plain, layer=1}" and 0 < float(row["sparsity_median"]) < 1, row
        # From elsewhere, by the copy in the run folder.
        resumed = programs["whole"].run("resume", folder / "run", cwd="/").stdout
        assert "5 ok" in resumed, resumed
        why = programs["whole"].run("why", next(iter(rows.values()))["cell_id"], "--run", folder / "run").stdout
        assert "still give this cell" in why, why

        # Another configuration is another network.
        study.write_text(STUDY.replace('config = "train/small.toml"\n\n', 'config = "train/small.toml"\nsteps = 151\n\n', 1))
        refused = programs["whole"].run("run", study, "--out", folder / "run", expect=2)
        assert "network 'plain' is not trained yet" in refused.stderr and "scheduled" not in refused.stderr, refused.stderr

        programs["whole"].run("data", "capture", files[0], "--layer", "0", "-n", "32", "--out", folder / "captured.h5")
        about = programs["whole"].run("data", "info", folder / "captured.h5").stdout
        assert "float32 [2 x 32 x 16]" in about and "causal = 1" in about, about
        for option, value, parameter in (("--layer", "-1", "layer"), ("-n", "-3", "n"), ("--first", "-5", "first")):
            refused = programs["whole"].run("data", "capture", files[0], option, value, "--out", folder / "no.h5", expect=2)
            assert f"parameter '{parameter}'" in refused.stderr and value in refused.stderr, refused.stderr
        assert not (folder / "no.h5").exists()

        # Events alone on standard output, while networks are trained too.
        study.write_text(STUDY)
        events = programs["fresh"].run("run", study, "--out", folder / "events", "--json", "--make-data").stdout.splitlines()
        assert len(events) > 5 and all(isinstance(json.loads(line), dict) for line in events), events
        assert len(list((folder / "fresh" / "models").glob("*.h5"))) == 2

        # No time at all: nothing is begun, and the count is told.
        late = programs["late"].run("data", "make", "--for", study, "--time-limit", "1e-9").stdout
        assert "0 of 2 networks trained" in late and "network '" not in late, late
        assert not list((folder / "late").rglob("*.h5"))
        assert "--time-limit" in programs["late"].run("data", "make", "--for", study, "--time-limit", "-1", expect=2).stderr

        # Networks of another text are not taken, nor trained again unasked.
        text.write_text("".join(f"{i} boats lie at the pier, and {i * 5 % 13} leave. " for i in range(900)))
        programs["whole"].run("data", "import", folder / "text.h5", text, "--kind", "tokens", "--force")
        for command in (["run", study, "--out", folder / "other"], ["data", "make", "--for", study]):
            refused = programs["whole"].run(*command, expect=2)
            assert "learned another text" in refused.stderr and "--again" in refused.stderr, refused.stderr
        before = [digest(programs["whole"], file) for file in files]
        made = programs["whole"].run("data", "make", "--for", study, "--again").stdout
        assert "network 'plain', 1 of 2" in made and "network 'scheduled', 2 of 2" in made and "was there" not in made, made
        assert all(digest(programs["whole"], file) != old for file, old in zip(files, before))
        assert programs["whole"].run("data", "make", "--for", study).stdout.count("was there") == 2
        print("two networks, the same bits after a kill")


if __name__ == "__main__":
    main()
