#!/usr/bin/env python3
"""The browser finds on the page, and on the medium, what people read there."""

import unittest

from page import Screen, Told, answer
from walk import Step, WalkError

FIRST, SECOND = "AB:" * 16, "CD:" * 15 + "EF"
STATUS = (
    "LIFEBOAT: WAITING\r\n\r\nLifeboat can also be used from a browser on the same network:\r\n"
    "  https://freedombox-recovery.local/\r\n  https://192.168.1.23/\r\n  code: 6t6v-qnn8\r\n"
    f"The certificate\r\nthat it shows has this SHA-256 fingerprint:\r\n  {FIRST}\r\n  {SECOND}\r\n"
    f"What was shown ended with:\r\n  code: 2222-2222\r\n  {FIRST}\r\n  {SECOND}\r\n"
)
CHOICE = (
    '<form method="post" action="/leave"><input type="hidden" name="token" value="old"></form>'
    '<form class="question" method="post" action="/answer" data-id="choose-box">'
    '<input type="hidden" name="token" value="T"><input type="hidden" name="number" value="7"><fieldset>'
    '<label class="option"><input type="radio" name="answer" value="0" required checked><span>other</span></label>'
    '<label class="option"><input type="radio" name="answer" value="1" required><span>freedombox, 25.9.3</span></label>'
    '</fieldset><button name="go" value="1">Go on</button></form>'
)
WORDS = '<form data-id="consent"><input type="hidden" name="token" value="T"><input id="answer" name="answer" type="text"></form>'
TEXT = '<form data-id="plan"><input type="hidden" name="answer" value="read"></form>'


class Page(unittest.TestCase):
    def test_the_medium_tells_address_code_and_fingerprint(self):
        told = Told.within(STATUS)
        self.assertEqual((told.code, told.addresses[1]), ("6t6v-qnn8", "192.168.1.23"))
        self.assertEqual(told.fingerprint, "ab" * 16 + "cd" * 15 + "ef")

    def test_what_is_not_there_yet_is_not_told(self):
        for text in (None, "", "LIFEBOAT: WAITING\r\n", STATUS[: STATUS.index(SECOND)]):
            self.assertIsNone(Told.within(text))

    def test_an_option_is_found_by_its_text_and_sent_with_the_fields_of_its_own_form(self):
        screen = Screen(CHOICE)
        self.assertEqual(screen.id, "choose-box")
        sent = screen.fields | answer(Step("choose-box", option="freedombox"), screen)
        self.assertEqual(sent, {"token": "T", "number": "7", "answer": "1"})

    def test_words_are_typed_and_a_text_is_only_read(self):
        self.assertEqual(answer(Step("consent", text="freedombox"), Screen(WORDS)), {"answer": "freedombox"})
        screen = Screen(TEXT)
        self.assertEqual(screen.fields | answer(Step("plan"), screen), {"answer": "read"})

    def test_an_option_that_is_not_offered_is_an_error(self):
        with self.assertRaisesRegex(WalkError, "offers nothing that matches"):
            answer(Step("choose-box", option="nobody"), Screen(CHOICE))

    def test_a_page_that_works_asks_nothing(self):
        self.assertIsNone(Screen("<main><p>Please wait.</p></main>").id)


if __name__ == "__main__":
    unittest.main()
