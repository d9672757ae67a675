"""What the command line treats as the user's to mend."""

import signal


class InputError(Exception):
    """Bad input: a file, a configuration or an argument that cannot be used.

    The message is one sentence or a few: what is wrong, where (file and line, block, option), and what to do.
    The command line prints it without a stack trace and exits with 2.
    """


class ContractError(InputError):
    """A part breaks the contract of its slot, or two parts do not fit together."""


class TrainingError(Exception):
    """A run that cannot go on: the loss is not finite, or memory does not hold one sample. The message is the run's
    reason."""


class OutputError(OSError):
    """A file that cannot be written; the message names it. Nothing of it is half-written."""

    def __str__(self) -> str:
        return str(self.strerror)


class BusyError(Exception):
    """Another process has the run; the message says which one. Nothing of the run has been touched, or nothing more
    is, where it was taken over."""


class InterruptedRunError(Exception):
    """A run that was told to stop by a signal, and has saved where it is."""

    def __init__(self, message: str, number: signal.Signals) -> None:
        super().__init__(message, number)
        self.message, self.signal = message, number

    def __str__(self) -> str:
        return self.message


class SweepError(Exception):
    """Some combinations of a sweep failed; the message names them and how to run just these again."""
