"""The attention benchmarks run to the end, and their counters are ratios. Nothing here depends on how long anything takes."""
import json
import subprocess
import sys
import unittest

CHUNKS = sys.argv.pop(1)
TILES = sys.argv.pop(1)


def runs(program, pattern):
    done = subprocess.run([program, f"--benchmark_filter={pattern}", "--benchmark_min_time=0.05", "--benchmark_format=json"],
                          capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["benchmarks"]


class BenchPrograms(unittest.TestCase):
    def test_decoding_goes_on_beyond_the_longest_context(self):
        [step] = runs(CHUNKS, "cosformer/step")
        self.assertFalse(step.get("error_occurred", False), step)
        self.assertGreater(step["iterations"], 1024)  # tokens that the context holds

    def test_share_is_a_ratio(self):
        for program, pattern in ((CHUNKS, "linear/forward/n:4096/threads:1"), (TILES, "softmax/causal/n:1024/")):
            [run] = runs(program, pattern)
            self.assertAlmostEqual(run["share"], run["GFLOP/s"] / run["sgemm"], delta=1e-6 * run["share"])
            self.assertTrue(0.01 < run["share"] < 1.2, run)


if __name__ == "__main__":
    unittest.main()
