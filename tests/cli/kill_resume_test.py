"""kill -9 at random moments loses no finished cell, and the end is the same to the last bit.

usage: kill_resume_test.py <borel> <data folder> [--kills N] [--study FILE] [--threads T] [--seed S]
"""
import argparse
import pathlib
import random
import signal
import subprocess
import tempfile
import time

from borel_runs import STUDY, Program, journal_records, quality_files


def finished(run):
    """Results by cell id; a cell that has two was run again."""
    cells = {}
    if not (pathlib.Path(run) / "journal.jsonl").exists():
        return cells
    for record in journal_records(run):
        if record["type"] == "cell":
            assert record["id"] not in cells, f"cell {record['id']} was run again"
            cells[record["id"]] = record["result"]
    return cells


def wait_for_a_moment(process, rng, whole_s, n_left):
    """Any time from start to end; or, as most of that is start and end, just after some event of the run."""
    if rng.random() < 0.3:
        try:
            process.wait(rng.uniform(0, whole_s))
        except subprocess.TimeoutExpired:
            pass
        return
    for _ in range(rng.randint(1, 2 * n_left + 4)):
        if not process.stdout.readline():
            return
    time.sleep(rng.uniform(0, 0.005))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("borel")
    parser.add_argument("data")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--study")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    program = Program(arguments.borel, arguments.data)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        study = pathlib.Path(arguments.study) if arguments.study else folder / "small.toml"
        if not arguments.study:
            study.write_text(STUDY)
        command = ["run", study, "--threads", arguments.threads, "--make-data"]
        begin = time.monotonic()
        program.run(*command, "--out", folder / "whole")
        whole_s = time.monotonic() - begin
        expected = quality_files(folder / "whole")
        n_cells = len(finished(folder / "whole"))

        kills, victims = 0, 0
        moments = []
        while kills < arguments.kills:
            victim = folder / f"victim{victims}"
            victims += 1
            known = {}
            while True:
                process = program.start(*command, "--json", "--out", victim)
                if kills < arguments.kills:
                    wait_for_a_moment(process, rng, whole_s, n_cells - len(known))
                    process.kill()
                    kills += process.wait() == -signal.SIGKILL
                process.communicate()
                now = finished(victim)
                for cell, result in known.items():
                    assert now.get(cell) == result, f"cell {cell} was lost or changed"
                known = now
                moments.append(len(now))
                if process.returncode != -signal.SIGKILL:
                    assert process.returncode == 0, process.returncode
                    break
            assert len(known) == n_cells, f"{len(known)} of {n_cells} cells"
            assert quality_files(victim) == expected, f"{victim} differs from the uninterrupted run"
    print(f"{kills} kills in {victims} runs of {n_cells} cells, after {moments} finished cells: same bits each time")


main()
