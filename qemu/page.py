"""The guide's page as a browser without scripts sees it: comes in with the code, answers by the forms.

It talks to the certificate only whose fingerprint was told beside the code, as a careful person does.
"""

import hashlib
import html.parser
import http.client
import re
import ssl
import time
import urllib.parse

from walk import ANSWER_TIMEOUT, WalkError, advance


class Told:
    """How the page is reached, from what a console or `status.txt` shows."""

    def __init__(self, text):
        self.code = re.search(r"^ *code: (\S+)", text, re.MULTILINE).group(1)
        self.addresses = re.findall(r"^ *https://(\S+)/", text, re.MULTILINE)
        pairs = re.findall(r"^ *((?:[0-9A-Fa-f]{2}:){8,}(?:[0-9A-Fa-f]{2})?)\s*$", text, re.MULTILINE)
        # It stands in two lines, and again where the console is quoted.
        self.fingerprint = "".join(pairs[:2]).replace(":", "").lower()

    @classmethod
    def within(cls, text):
        """What `text` tells, or None while it does not say everything."""
        try:
            told = cls(text or "")
        except AttributeError:
            return None
        return told if len(told.fingerprint) == 64 else None


class Screen(html.parser.HTMLParser):
    """A page: the `id` of its question, its hidden `fields`, its `options` (value, text), and whether it `has_answer`."""

    def __init__(self, text):
        super().__init__()
        self.id, self.fields, self.options, self.has_answer = None, {}, [], False
        self._inside = False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if tag == "form":
            self._inside = "data-id" in given
            self.id = given.get("data-id", self.id)
        if tag == "input" and self._inside:
            if given.get("type") == "hidden":
                self.fields[given["name"]] = given["value"]
            elif given.get("type") == "radio":
                self.options.append([given["value"], ""])
            else:
                self.has_answer = True

    def handle_endtag(self, tag):
        self._inside = self._inside and tag != "form"

    def handle_data(self, data):
        if self._inside and self.options:
            self.options[-1][1] += data


class Browser:
    """One browser, at `port` of this computer."""

    def __init__(self, port, told):
        self.own, self.told, self.cookie = f"127.0.0.1:{port}", told, None
        # Nobody vouches for a box at home: the fingerprint does.
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.check_hostname = False
        self.context.verify_mode = ssl.CERT_NONE

    def ask(self, method, path, fields=None):
        """One request: (status, text)."""
        connection = http.client.HTTPSConnection(self.own, timeout=120, context=self.context)
        try:
            connection.connect()
            shown = hashlib.sha256(connection.sock.getpeercert(binary_form=True)).hexdigest()
            if shown != self.told.fingerprint:
                raise WalkError(f"the page shows the certificate {shown}, told was {self.told.fingerprint}")
            headers = {"Origin": f"https://{self.own}"} if method == "POST" else {}
            if self.cookie:
                headers["Cookie"] = self.cookie
            if fields is not None:
                headers["Content-Type"] = "application/x-www-form-urlencoded"
            body = urllib.parse.urlencode(fields) if fields is not None else None
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            text = answer.read().decode()
            if fresh := answer.getheader("Set-Cookie"):
                self.cookie = fresh.partition(";")[0]
            return answer.status, text
        finally:
            connection.close()

    def enter(self):
        """Comes in. A wrong code must not work."""
        status, _ = self.ask("POST", "/code", {"code": "2222-2222"})
        if status != 403:
            raise WalkError(f"a wrong code gives status {status}")
        status, text = self.ask("POST", "/code", {"code": self.told.code})
        if status != 303:
            raise WalkError(f"the code {self.told.code} gives status {status}: {text}")

    def walk(self, steps):
        """Answers the questions in the table's order until the table ends."""
        steps = list(steps)
        while steps:
            screen = self.question()
            step = advance(steps, screen.id)
            status, text = self.ask("POST", "/answer", screen.fields | answer(step, screen))
            if status != 303:
                raise WalkError(f'the answer to "{screen.id}" gives status {status}: {text}')

    def question(self):
        """Loads the page until it asks something."""
        end = time.monotonic() + ANSWER_TIMEOUT
        while time.monotonic() < end:
            status, text = self.ask("GET", "/")
            screen = Screen(text)
            if status == 200 and screen.id:
                return screen
            time.sleep(1)
        raise WalkError(f"the page asks nothing:\n{text}")


def answer(step, screen):
    """The field that answers; a text to read has it already."""
    if step.option:
        for value, text in screen.options:
            if re.search(step.option, text):
                return {"answer": value}
        raise WalkError(f'question "{step.id}" offers nothing that matches "{step.option}"')
    if screen.options:
        return {"answer": screen.options[int(step.text) - 1][0]}
    return {"answer": step.text} if screen.has_answer else {}
