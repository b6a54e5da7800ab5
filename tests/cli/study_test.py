"""The study commands from outside: same results however a study is run, clear messages, exit codes.

usage: study_test.py <borel> <data folder>
"""
import json
import pathlib
import signal
import sys
import tempfile
import time
import unittest

from borel_runs import STUDY, Program, journal_records, quality_files, reversed_study

BOREL, DATA = sys.argv[1:3]


class StudyCommands(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory()
        cls.folder = pathlib.Path(cls.temporary.name)
        cls.program = Program(BOREL, DATA)
        cls.study = cls.folder / "small.toml"
        cls.study.write_text(STUDY)
        cls.whole = cls.folder / "whole"
        cls.first = cls.program.run("run", cls.study, "--out", cls.whole, "--threads", 1, "--make-data")
        cls.expected = quality_files(cls.whole)

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    def new(self, name, text):
        file = self.folder / name
        file.write_text(text)
        return file

    def cells(self, study, *arguments):
        plan = json.loads(self.program.run("plan", study, "--json", *arguments).stdout)
        return {cell["id"]: cell for cell in plan["cells"]}

    def test_piped_output_is_plain_lines_with_a_summary(self):
        self.assertNotIn("\033", self.first.stdout)
        self.assertNotIn("\r", self.first.stdout)
        self.assertIn("optimizer.convergence", self.first.stdout)
        self.assertIn("problem_sparsemax", self.first.stdout)
        self.assertIn(str(self.whole / "results.h5"), self.first.stdout)

    def test_writes_all_outputs(self):
        for name in ("journal.jsonl", "study.toml", "results.h5", "csv/attention.concentration.csv", "csv/curves.csv",
                     "csv/timings.csv", "csv/optimizer.convergence.csv", "report.html"):
            self.assertTrue((self.whole / name).stat().st_size > 0, name)

    def test_second_run_finds_everything_done(self):
        before = (self.whole / "journal.jsonl").read_bytes()
        stamp = (self.whole / "results.h5").stat().st_mtime_ns
        begin = time.monotonic()
        again = self.program.run("run", self.study, "--out", self.whole)
        self.assertLessEqual(time.monotonic() - begin, 5)
        self.assertIn("cells are done", again.stdout)
        self.assertEqual((self.whole / "journal.jsonl").read_bytes(), before)
        self.assertEqual((self.whole / "results.h5").stat().st_mtime_ns, stamp)

    def test_threads_change_no_bit(self):
        self.program.run("run", self.study, "--out", self.folder / "two", "--threads", 2, "--no-timing")
        self.assertEqual(quality_files(self.folder / "two"), self.expected)

    def test_order_in_the_file_changes_no_id_and_no_bit(self):
        other = self.new("reversed.toml", reversed_study(STUDY))
        ids = self.cells(self.study)
        self.assertEqual(set(self.cells(other)), set(ids))
        self.program.run("run", other, "--out", self.folder / "reversed", "--threads", 2, "--no-timing")
        self.assertEqual(quality_files(self.folder / "reversed"), self.expected)
        # The run of one is the run of the other.
        again = self.program.run("run", self.study, "--out", self.folder / "reversed", "--no-timing")
        self.assertIn("cells are done", again.stdout)

    def test_shards_merge_to_the_whole(self):
        parts = []
        for i in (1, 2, 3):
            parts.append(self.folder / f"part{i}")
            self.program.run("run", self.study, "--out", parts[-1], "--shard", f"{i}/3", "--threads", 2)
        self.program.run("merge", *parts, "--out", self.folder / "merged")
        self.assertEqual(quality_files(self.folder / "merged"), self.expected)
        self.program.run("merge", *parts, "--out", self.folder / "merged", expect=2)
        self.program.run("merge", *parts[:2], "--out", self.folder / "partly", expect=1)

    def test_plan_shows_the_state_of_each_cell(self):
        states = {cell["state"] for cell in self.cells(self.study, "--out", self.whole).values()}
        self.assertEqual(states, {"ok", "skipped"})
        states = {cell["state"] for cell in self.cells(self.study, "--out", self.folder / "nowhere").values()}
        self.assertEqual(states, {"missing"})

    def test_impossible_pairs_are_skipped_with_the_reason_that_list_gives(self):
        pairs = json.loads(self.program.run("list", "--pairs", "--json").stdout)["pairs"]
        reason = next(p["reason"] for p in pairs if (p["attention"], p["position"]) == ("linear", "alibi"))
        self.assertIn("bias", reason)
        skipped = [r for r in journal_records(self.whole) if r["type"] == "cell" and r["result"]["outcome"] == "skipped"]
        self.assertEqual(len(skipped), 3)
        self.assertEqual({record["result"]["reason"] for record in skipped}, {reason})

    def test_why_explains_a_cell(self):
        cells = self.cells(self.study, "--out", self.whole)
        cell = next(key for key, value in cells.items() if value["state"] == "ok")
        text = self.program.run("why", cell[:10], "--run", self.whole).stdout
        for part in (cell, "state        ok", "/protocol = ", "still give this cell", "taken from the journal"):
            self.assertIn(part, text)
        self.assertIn("begins with", self.program.run("why", "zzz", "--run", self.whole, expect=2).stderr)

    def test_failed_cells_end_with_1_and_are_retried_when_asked(self):
        # A limit that nothing can meet.
        study = self.new("limit.toml", STUDY + "\n[limits]\ntime_per_cell_s = 1e-9\n")
        run = self.folder / "limit"
        failed = self.program.run("run", study, "--out", run, expect=1)
        self.assertIn("--retry-failed", failed.stdout)
        n = len(self.cells(study))
        self.assertEqual({cell["state"] for cell in self.cells(study, "--out", run).values()},
                         {"timeout", "skipped"})
        self.program.run("resume", run, expect=1)
        self.assertEqual(sum(record["type"] == "cell" for record in journal_records(run)), n)
        study.write_text(STUDY)
        self.program.run("run", study, "--out", run, "--retry-failed")
        self.assertEqual(quality_files(run), self.expected)

    def test_ctrl_c_stops_cleanly_and_resume_goes_on(self):
        run = self.folder / "stopped"
        process = self.program.start("run", self.study, "--out", run, "--json", "--threads", 1)
        for line in process.stdout:
            if json.loads(line)["event"] == "cell_finished":
                process.send_signal(signal.SIGINT)
                break
        events = [json.loads(line) for line in process.stdout]
        process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130)
        self.assertTrue(events[-1]["interrupted"])
        self.assertGreaterEqual(events[-1]["missing"], 1)
        self.program.run("resume", run)
        self.assertEqual(quality_files(run), self.expected)

    def test_ctrl_c_while_figures_are_drawn_loses_nothing_and_resume_draws_them(self):
        run, tools = self.folder / "stopped_drawing", self.folder / "slow_tools"
        tools.mkdir()
        begun = tools / "begun"
        (tools / "gnuplot").write_text(f"#!/bin/sh\ntouch {begun}\nsleep 600\n")
        (tools / "gnuplot").chmod(0o755)
        slow = Program(BOREL, DATA)
        slow.environment["PATH"] = f"{tools}:{slow.environment['PATH']}"
        process = slow.start("run", self.study, "--out", run)
        deadline = time.monotonic() + 120
        while not begun.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=20)
        self.assertEqual(process.returncode, 130, stdout + stderr)
        self.assertRegex(stdout, r"stopped; all \d+ cells are done and kept")
        resumed = self.program.run("resume", run)
        self.assertIn(str(run / "report.html"), resumed.stdout)
        self.assertNotIn("gnuplot", (run / "report.html").read_text().split("<h2", 1)[0])
        self.assertTrue(list((run / "figures").glob("*.pdf")))
        self.assertEqual(quality_files(run), self.expected)

    def test_a_run_finds_its_datasets_from_any_folder(self):
        home = self.folder / "home"
        home.mkdir()
        (home / "values.csv").write_text("x\n" + "\n".join(str(0.37 * k % 1) for k in range(60)))
        self.program.run("data", "import", "./mine.h5", "values.csv", "--kind", "samples", cwd=home)
        (home / "mine.toml").write_text('title = "Mine"\n[[compare]]\nprotocol = "density.fit"\n'
                                        'datasets = ["./mine.h5"]\nmethods = ["histogram", "kde"]\n')
        self.program.run("run", "mine.toml", "--out", "run", cwd=home)
        for _ in range(2):  # the folder that a resumed run notes is that of its first start
            resumed = self.program.run("resume", home / "run", cwd=self.folder)
            self.assertIn("6 cells: 6 ok", resumed.stdout)

    def test_json_events_tell_the_whole_story(self):
        done = self.program.run("run", self.study, "--out", self.folder / "json", "--json", "--threads", 2)
        events = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual(events[0]["event"], "begin")
        self.assertEqual(events[-1]["event"], "end")
        finished = [event for event in events if event["event"] == "cell_finished"]
        self.assertEqual(len(finished), events[0]["cells"])
        outcomes = events[-1]["outcomes"]
        self.assertEqual(outcomes["ok"] + outcomes["skipped"], events[0]["cells"])

    def test_a_second_program_in_the_same_folder_is_refused(self):
        run = self.folder / "busy"
        process = self.program.start("run", self.study, "--out", run, "--json", "--threads", 1)
        process.stdout.readline()
        second = self.program.run("run", self.study, "--out", run, expect=None)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        self.assertEqual(second.returncode, 2, second.stdout)
        self.assertIn(str(process.pid), second.stderr)

    def test_bad_studies_end_with_2_and_one_clear_message(self):
        compare = '[[compare]]\nprotocol = "optimizer.convergence"\ndatasets = ["problem_sparsemax"]\n'
        good = 'methods = ["frank_wolfe"]'
        cases = {
            "seed = = 1": ":1:",
            'colour = "red"\n' + compare + good: "unknown key 'colour'",
            "repetition = 2\n" + compare + good: "did you mean 'repetitions'",
            "repetitions = -1\n" + compare + good: "'repetitions' must be",
            compare + 'methods = ["frank_wolf"]': "did you mean 'frank_wolfe'",
            compare.replace("vergence", "vergense") + good: "did you mean 'optimizer.convergence'",
            compare.replace("_sparsemax", "_sparsemx") + good: "did you mean 'problem_sparsemax'",
            compare.replace("problem_sparsemax", "gaussian_qk_d64") + good: "of kind 'problem'",
            compare + 'methods = ["frank_wolfe{variant=away_from}"]': "variant",
            compare + 'methods = ["frank_wolfe{varant=away}"]': "did you mean 'variant'",
            compare + 'methods = ["frank_wolfe{"]': "column",
            compare + good + "\noptions = {max_iteration = 5}": "did you mean 'max_iterations'",
            compare + good + "\noptions = {max_iterations = 0}": "max_iterations",
            compare + good + '\npositions = ["rope"]': "unknown key 'positions'",
        }
        for number, (text, part) in enumerate(cases.items()):
            with self.subTest(text=text):
                file = self.new(f"bad{number}.toml", text + "\n")
                done = self.program.run("run", file, "--out", self.folder / "bad", expect=2)
                self.assertIn(part, done.stderr)
                self.assertIn(file.name, done.stderr)
                self.assertEqual(done.stdout, "")
                self.assertFalse((self.folder / "bad").exists())
        for arguments in (["run", self.folder / "none.toml"], ["resume", self.folder], ["run", self.study, "--shard", "4/3"],
                          ["merge", self.folder, "--out", self.folder / "x"]):
            self.assertTrue(self.program.run(*arguments, expect=2).stderr.startswith("borel: error: "))


unittest.main(argv=[sys.argv[0], "-v"])
