"""Stands for the kernel's packet filter in an emulated box: QEMU's user emulation passes none of its messages on.

firewalld imports this in place of the module of the same name. Every rule is taken and has no effect; the box has no
network that a rule could keep anybody from.
"""

import copy
import itertools


class Nftables:
    """What firewalld uses of libnftables."""

    def __init__(self):
        self.handles = itertools.count(1)

    def set_echo_output(self, _on):
        """What was taken is always printed back."""

    set_handle_output = set_echo_output

    def json_cmd(self, commands):
        """Takes commands; each comes back as the kernel would have stored it."""
        taken = copy.deepcopy(commands)
        for command in taken["nftables"]:
            for stored in command.values():
                if "rule" in stored:
                    stored["rule"]["handle"] = next(self.handles)
        return 0, taken, ""
