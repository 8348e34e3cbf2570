"""The one error that a person, not a programmer, is meant to read."""


class UserError(Exception):
    """Something outside the code is wrong: an input, an option, the network.

    Its message is one paragraph: what was expected, what was found, where, and the override that helps.
    Commands print it without a traceback and exit with a status that is not 0.
    """
