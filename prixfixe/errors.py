"""What the command line treats as the user's to mend."""


class InputError(Exception):
    """Bad input: a file, a configuration or an argument that cannot be used.

    The message is one sentence or a few: what is wrong, where (file and line, block, option), and what to do.
    The command line prints it without a stack trace and exits with 2.
    """


class ContractError(InputError):
    """A part breaks the contract of its slot, or two parts do not fit together."""


class TrainingError(Exception):
    """A run that cannot go on: the loss is not finite, or memory does not hold one sample. The message is the run's reason."""


class SweepError(Exception):
    """Some combinations of a sweep failed; the message names them and how to run just these again."""
