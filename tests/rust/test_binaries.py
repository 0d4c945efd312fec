#!/usr/bin/env python3
"""What runs the Rust tests counts and shows every way in which a program with tests can end."""

import contextlib
import io
import pathlib
import tempfile
import time
import unittest

import binaries

GOOD = "echo 'SKIPPED: no disk'; echo 'test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured'"
BAD = "echo \"thread 'a' panicked at x.rs\"; echo 'test result: FAILED. 2 passed; 2 failed; 0 ignored'; exit 101"


class Binaries(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def played(self, workers=2, patience=60, **scripts):
        """Runs shell scripts as if they were programs with tests: the counts, what was printed, and the log."""
        programs = [
            binaries.Program(name, ["sh", "-c", script], self.folder / f"{name}.log") for name, script in scripts.items()
        ]
        binaries.run(programs, workers, patience)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            counts = binaries.report(programs, self.folder / "log")
        return counts, printed.getvalue(), (self.folder / "log").read_text()

    def test_counts_are_added_and_a_told_skip_has_not_passed(self):
        counts, printed, _ = self.played(one=GOOD, two=GOOD)
        self.assertEqual((counts, printed), ((4, 0, 4), ""))

    def test_failures_are_counted_and_shown_as_the_program_tells_them(self):
        counts, printed, _ = self.played(one=GOOD, two=BAD)
        self.assertEqual(counts, (4, 2, 2))
        self.assertIn("panicked at x.rs", printed)
        self.assertIn("two ended with 101", printed)

    def test_a_crash_counts_also_after_a_good_result(self):
        counts, printed, log = self.played(one=GOOD, two=f"{GOOD}; kill -SEGV $$")
        self.assertEqual(counts, (4, 1, 4))
        self.assertIn("two was ended by signal 11", printed)
        self.assertIn("error: two was ended by signal 11", log)

    def test_an_end_without_a_result_counts(self):
        counts, printed, _ = self.played(one="true")
        self.assertEqual(counts, (0, 1, 0))
        self.assertIn("one ended without saying how its tests went", printed)

    def test_one_that_hangs_is_ended_with_what_it_started_and_counts(self):
        child = self.folder / "child"
        counts, printed, log = self.played(patience=2, one=f"sleep 1000 & echo $! >{child}; wait")
        self.assertEqual(counts, (0, 1, 0))
        self.assertIn("one was ended after 2 s", printed)
        self.assertIn("error: one was ended after 2 s", log)
        # On a machine that is too busy for it, nothing was started.
        started = child.read_text().strip() if child.exists() else ""
        status = pathlib.Path(f"/proc/{started or 'none'}/stat")
        while status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z":
            time.sleep(0.01)

    def test_the_log_has_the_order_of_the_programs_and_those_that_have_to_be_alone_are(self):
        marks = self.folder / "marks"
        script = f"echo begin >>{marks}; echo end >>{marks}; {GOOD}"
        _, _, log = self.played(web=script, zebra=script, aardvark=script, borg_memory=script)
        names = [line.split()[1] for line in log.splitlines() if "Running" in line]
        self.assertEqual(names, ["web", "zebra", "aardvark", "borg_memory"])
        self.assertEqual(marks.read_text().split()[-4:], ["begin", "end"] * 2)

    def test_two_run_at_once_where_two_may(self):
        # Each waits until the other is there.
        meeting = "until [ -e {0}/{2} ]; do : >{0}/{1}; sleep 0.01; done; : >{0}/{1}; " + GOOD
        counts, _, _ = self.played(
            one=meeting.format(self.folder, "here", "there"), two=meeting.format(self.folder, "there", "here")
        )
        self.assertEqual(counts[1], 0)


if __name__ == "__main__":
    unittest.main()
