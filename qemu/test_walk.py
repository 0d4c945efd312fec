#!/usr/bin/env python3
"""The walk answers by the table and nothing else: wrong order, unknown questions and missing options end it."""

import re
import unittest

from walk import Step, WalkError, restore_everything, walk

BOX = "[choose-box] Put the data ON:\n  1) other\n  2) freedombox, FreedomBox 25.9.3\n> "
BACKUP = "[choose-backup] Which backup?\n  1) BACKUPUSB: Downloads/2025.tar.gz\n> "
ARCHIVE = "[choose-archive] Which archive?\n  1) newest\n> "
APPS = "[choose-apps] Which apps?\n  1) choose\n  2) all of them\n> "
CONSENT = "[consent] Type the name\n> "
DONE = "[done] Everything is in place.\n"
AFTER = "[after] What next?\n  1) run it again\n  3) power off\n> "


class Script:
    """A console that shows the next text after each answer."""

    def __init__(self, *texts):
        self.texts, self.console, self.answers, self.position = list(texts), b"", [], 0

    def wait_any(self, patterns, _timeout):
        self.console += self.texts.pop(0).encode()
        found = [(re.compile(p, re.MULTILINE).search(self.console, self.position), i) for i, p in enumerate(patterns)]
        match, index = next((match, index) for match, index in found if match)
        self.position = match.end()
        return index, match

    def type(self, line):
        self.answers.append(line)
        self.console += f"{line}\r\n".encode()


class Walk(unittest.TestCase):
    def answers(self, *texts):
        script = Script(*texts)
        walk(script, restore_everything("freedombox"))
        return script.answers

    def test_answers_every_question_by_its_option_or_text(self):
        expected = ["2", "1", "2", "freedombox", "3"]
        self.assertEqual(self.answers(BOX, BACKUP, APPS, CONSENT, DONE + AFTER), expected)

    def test_answers_the_optional_question_when_it_comes(self):
        expected = ["2", "1", "1", "2", "freedombox", "3"]
        self.assertEqual(self.answers(BOX, BACKUP, ARCHIVE, APPS, CONSENT, DONE + AFTER), expected)

    def test_reads_on_where_a_text_is_longer_than_the_screen(self):
        page = "Plan\n-- press Enter to read on --\n> "
        expected = ["2", "1", "2", "", "", "freedombox", "3"]
        self.assertEqual(self.answers(BOX, BACKUP, APPS, page, page, CONSENT, DONE + AFTER), expected)

    def test_done_may_wait_for_enter(self):
        self.assertEqual(self.answers(BOX, BACKUP, APPS, CONSENT, DONE + "> ", AFTER)[-2:], ["", "3"])

    def test_a_guide_that_ends_early_is_an_error(self):
        with self.assertRaisesRegex(WalkError, '"after" where "choose-apps" was expected'):
            self.answers(BOX, BACKUP, AFTER)

    def test_consent_is_not_typed_into_another_question(self):
        with self.assertRaisesRegex(WalkError, '"unlock" where "consent" was expected'):
            self.answers(BOX, BACKUP, APPS, "[unlock] Passphrase?\n> ")

    def test_a_box_that_is_not_offered_is_an_error(self):
        with self.assertRaisesRegex(WalkError, "offers nothing that matches"):
            self.answers("[choose-box] Put the data ON:\n  1) other\n> ")

    def test_a_question_without_id_is_an_error(self):
        with self.assertRaisesRegex(WalkError, "without a prompt id"):
            self.answers("Sure?\n> ")

    def test_only_steps_marked_so_may_pass_without_answer(self):
        steps = [Step("consent", text="freedombox"), Step("after", text="1")]
        with self.assertRaisesRegex(WalkError, "did not wait for its answer"):
            walk(Script("[consent] Type the name\n[after] What next?\n> "), steps)


if __name__ == "__main__":
    unittest.main()
