"""borel bench end to end: names, counters, JSON, comparison, messages. Nothing here depends on how long anything takes."""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

BOREL = sys.argv.pop(1)


def borel(*arguments):
    return subprocess.run([BOREL, "bench", *arguments], capture_output=True, text=True, timeout=300)


class Bench(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def file(self, name):
        return str(pathlib.Path(self.folder.name) / name)

    def run_quickly(self, name, *arguments):
        done = borel(*arguments, "--min-time", "0.0005", "--no-ceilings", "--json", self.file(name))
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout, json.loads(pathlib.Path(self.file(name)).read_text())

    def test_times_every_size_and_thread_count_and_fits_the_exponent(self):
        out, result = self.run_quickly("a.json", "optimizer/projected_gradient", "--sizes", "n=16,32", "--threads", "1,2")
        names = {run["run_name"] for run in result["benchmarks"]}
        for n in (16, 32):
            for threads in (1, 2):
                self.assertTrue(any(f"/minimize/n:{n}/threads:{threads}" in name for name in names), names)
        self.assertIn("time ~ n^", out)
        self.assertIn("plugin_folders", result["context"])
        self.assertGreater(result["benchmarks"][0]["real_time"], 0)

    def test_checks_results_before_timing_in_every_family(self):
        _, result = self.run_quickly("a.json", "attention/softmax", "position/rope", "density/histogram",
                                     "optimizer/frank_wolfe", "--sizes", "n=64", "--no-memory")
        self.assertGreaterEqual(len(result["benchmarks"]), 5)
        for run in result["benchmarks"]:
            self.assertFalse(run.get("error_occurred", False), run)
        softmax = next(run for run in result["benchmarks"] if "softmax" in run["name"])
        self.assertGreater(softmax["GFLOP/s"], 0)

    def test_compares_two_results_and_asks_for_repetitions(self):
        for name in ("a.json", "b.json"):
            self.run_quickly(name, "position/none", "--sizes", "8", "--repetitions", "2", "--no-memory")
        done = borel("--compare", self.file("a.json"), self.file("b.json"))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("position/none/plan/n:8", done.stdout)
        self.assertIn("2+2", done.stdout)
        self.assertIn("--repetitions 9", done.stdout)

    def test_calls_clear_differences_with_enough_repetitions(self):
        for name, scale in (("a.json", 1.0), ("b.json", 2.0)):
            runs = [{"name": "x", "run_name": "x", "run_type": "iteration", "real_time": scale * (100 + i), "time_unit": "us"}
                    for i in range(9)]
            pathlib.Path(self.file(name)).write_text(json.dumps({"benchmarks": runs}))
        done = borel("--compare", self.file("a.json"), self.file("b.json"))
        self.assertRegex(done.stdout, r"x .* 2\.000 .*9\+9  slower")

    def test_refuses_what_it_does_not_know(self):
        for arguments, texts in ((["optimizer/frank_wolf"], ["frank_wolfe"]), (["optimiser"], ["optimizer"]),
                                 (["position/none", "--sizes", "n=a"], ["--sizes", "got 'a'"]),
                                 (["--compare", "no.json", "no.json"], ["no.json"])):
            done = borel(*arguments)
            self.assertEqual(done.returncode, 2, done.stdout)
            for text in texts:
                self.assertIn(text, done.stderr)


if __name__ == "__main__":
    unittest.main()
