"""scripts/published_ordering on made-up runs: the published numbers themselves hold, the same with two methods exchanged do not.

usage: published_ordering_test.py <repository>
"""
import csv
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(sys.argv[1])
LENGTH = 64


def write_run(folder, accuracy, losses, spread=None, factor=8):
    """accuracy: (network, method) -> (repeated, plain); spread: two repetitions, so far above and below"""
    (folder / "csv").mkdir(parents=True, exist_ok=True)
    with open(folder / "csv" / "position.extrapolation.csv", "w", newline="") as table, \
            open(folder / "csv" / "curves.csv", "w", newline="") as curves:
        cells, points = csv.writer(table), csv.writer(curves)
        cells.writerow(["cell_id", "dataset", "options", "position"])
        points.writerow(["cell_id", "curve", "x", "y"])
        for number, ((network, method), (repeated, plain)) in enumerate(accuracy.items()):
            # As programs write it: every parameter, and the family before the id.
            used = method.replace("L/2", str(LENGTH // 2)).replace("L/4", str(LENGTH // 4)).replace("of=", "of=position/")
            used = "position/" + (used[:-1] + ", theta_base=10000}" if used.endswith("}") else used + "{theta_base=10000}")
            for shift in (0,) if spread is None else (-spread, spread):
                cell = f"{number}/{shift}"
                cells.writerow([cell, "model_rope_128" if network == "rope" else "model/" + network, "{}", used])
                for x in (LENGTH, factor * LENGTH):
                    for name, value in (("accuracy", plain), ("accuracy, repeated text", repeated),
                                        ("accuracy, whole context", plain), ("accuracy, whole context, repeated text", repeated)):
                        points.writerow([cell, name, x, (value + shift) / 100])
                    points.writerow([cell, "loss, repeated text", x, losses[x > LENGTH]])


def run(folder, expect):
    done = subprocess.run([ROOT / "scripts" / "published_ordering", folder], text=True, capture_output=True)
    assert done.returncode == expect and "Traceback" not in done.stderr, (done.returncode, done.stdout, done.stderr)
    return done.stdout + done.stderr


def main():
    with open(ROOT / "studies" / "published" / "length-extrapolation.csv", newline="") as table:
        published = {(row["network"], row["method"]): (float(row["repeated"]), float(row["plain"]))
                     for row in csv.DictReader(table)}
    # The articles have YaRN above ReRoPE on repeated text; the order that is asked for is the one of plain text.
    yarn, rerope = ("rope", "yarn{ramp=code}"), ("rope", "rerope{window=L/2}")
    published[yarn] = (77.0, published[yarn][1])
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_run(folder / "same", published, (2.0, 1.0))
        said = run(folder / "same", 0)
        assert f"over {len(published)} methods" in said and "NO" not in said, said
        assert "repeated text: 0.996" in said and "plain text: 1.000" in said, said
        changed = dict(published)
        changed["rope", "pi"], changed["rope", "rope"] = changed["rope", "rope"], changed["rope", "pi"]
        write_run(folder / "changed", changed, (2.0, 1.0))
        assert "NO   plain text:    pi < rope  (23.2 13.5)" in run(folder / "changed", 1)
        write_run(folder / "rising", published, (1.0, 2.0))
        assert "NO   rerope{window=L/2}: 1.000 2.000" in run(folder / "rising", 1)
        few = {key: published[key] for key in [("rope", "rope"), ("rope", "pi"), yarn, rerope]}
        write_run(folder / "few", few, (2.0, 1.0))
        assert "only 4 of the published methods" in run(folder / "few", 1)
        # Repetitions count by their mean; the last one alone would be the same order, so numbers are compared.
        write_run(folder / "twice", published, (2.0, 1.0), spread=3)
        assert run(folder / "twice", 0) == said
        write_run(folder / "short", published, (2.0, 1.0), factor=4)
        assert "no result at 8 times the training length" in run(folder / "short", 1)
        assert "position.extrapolation.csv cannot be read" in run(folder / "none", 1)
        write_run(folder / "mixed", published, (2.0, 1.0))
        table = folder / "mixed" / "csv" / "position.extrapolation.csv"
        rows = table.read_text().splitlines()
        table.write_text("\n".join(rows + [rows[1].replace("{}", "n_windows=2")]) + "\n")
        assert "cannot be told apart" in run(folder / "mixed", 1)
    print("the order of the published tables is known")


if __name__ == "__main__":
    main()
