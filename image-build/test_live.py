#!/usr/bin/env python3
"""The live system's scripts, as far as they can be tried without starting it."""

import pathlib
import re
import subprocess
import tempfile
import time
import unittest

DEFINITION = pathlib.Path(__file__).resolve().parent / "definition"


class Light(unittest.TestCase):
    """A board's lights, as folders."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.leds, self.run = pathlib.Path(folder.name, "leds"), pathlib.Path(folder.name, "run")
        self.run.mkdir()
        for name in ("mmc0::", "input3::capslock", "olimex:green:wan", "a20-olinuxino-lime2:green:usr"):
            (self.leds / name).mkdir(parents=True)
            (self.leds / name / "brightness").write_text("7\n")
            (self.leds / name / "max_brightness").write_text("255\n")
        self.own = self.leds / "a20-olinuxino-lime2:green:usr/brightness"

    def start(self):
        child = subprocess.Popen(["sh", DEFINITION / "light", self.leds, self.run])
        self.addCleanup(child.wait)
        self.addCleanup(child.kill)
        return child

    def becomes(self, wanted):
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if self.own.read_text().strip() == wanted:
                return
            time.sleep(0.02)
        self.fail(f"the light never became {wanted}")

    def test_the_user_light_flashes_and_no_other_is_touched(self):
        (self.run / "state").write_text("waiting")
        self.start()
        for wanted in ("255", "0", "255"):
            self.becomes(wanted)
        others = {path.read_text() for path in self.leds.glob("*/brightness") if path != self.own}
        self.assertEqual(others, {"7\n"})

    def test_the_end_counts_more_than_the_state_and_done_stays_on(self):
        (self.run / "state").write_text("waiting")
        (self.run / "ending").write_text("done\n")
        self.start()
        self.becomes("255")
        seen = set()
        for _ in range(60):
            seen.add(self.own.read_text().strip())
            time.sleep(0.05)
        self.assertLessEqual(seen, {"255", ""}, "a light that is on does not go off")

    def test_a_board_without_a_user_light_ends_at_once(self):
        for path in list(self.leds.glob("*usr/*")):
            path.unlink()
        self.assertEqual(self.start().wait(30), 0)


class Texts(unittest.TestCase):
    def test_every_answer_of_the_sample_is_one_that_the_guide_knows(self):
        # The live system's own question; all others are the guide's.
        known = {"after"}
        source = (DEFINITION.parent.parent / "src/model/question.rs").read_text()
        known |= set(re.findall(r'"([a-z-]+)"', source[source.index("QUESTIONS") :].split("];")[0]))
        sample = (DEFINITION / "answers-sample.toml").read_text()
        asked = set(re.findall(r"^# ([a-z-]+) = ", sample, re.MULTILINE))
        self.assertLessEqual(asked, known)
        self.assertGreaterEqual(asked, {"choose-box", "choose-backup", "consent", "after"})

    def test_what_people_read_on_the_medium_fits_their_screens(self):
        for name in ("README.txt", "answers-sample.toml"):
            for line in (DEFINITION / name).read_text().splitlines():
                self.assertLessEqual(len(line), 120, line)


if __name__ == "__main__":
    unittest.main()
