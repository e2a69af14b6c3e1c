"""What can go wrong, split by who can act on it; the exit code follows the split.

    TextmillError
    ├── InputError           exit 2   the user's input: a path, a text, a setting. One line: what, where, what to do.
    │   ├── SettingsError             a setting's name, type or range
    │   └── FolderError               a corpus, dataset, checkpoint or texts folder that is missing, foreign or altered
    ├── MachineError         exit 3   the machine: a package that is not installed, no space, no such device
    └── Interrupted          exit 130 stopped by Ctrl-C or SIGTERM, after saving

Anything else that escapes is our bug and exits 1 with its traceback.
"""

from __future__ import annotations


class TextmillError(Exception):
    """Base of every error that is reported as one line, without a traceback."""

    exit_code = 1


class InputError(TextmillError):
    """The user's input cannot be used as it is. Retrying without a change is useless."""

    exit_code = 2


class SettingsError(InputError):
    """A setting with an unknown name, a wrong type or a value out of range."""


class FolderError(InputError):
    """A folder that is not what the stage needs: missing, of another kind, half-written or altered."""


class MachineError(TextmillError):
    """The machine lacks something: a package, space, a device. Retrying elsewhere may help."""

    exit_code = 3


class Interrupted(TextmillError):
    """Stopped on request; what was done is saved and the message says how to go on."""

    exit_code = 130
