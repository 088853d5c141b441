"""The exceptions that cross package borders.

Whatever a user can cause is a `UserError`: its message is one line that says what was wrong and how to mend it,
the CLI prints it to stderr and exits with 1, and a job that raises it fails with that line. Everything else that
escapes is a bug and keeps its traceback.
"""


class HsaeError(Exception):
    """Base of every exception that hsae raises on purpose."""


class UserError(HsaeError):
    """Bad input or a bad environment; the message is one line with what was wrong and how to mend it."""

    details: tuple[str, ...] = ()
    """Further lines for a person, printed before the message, where one input has many mistakes."""


class ServiceError(UserError):
    """The database, the broker or the object store cannot be reached or refuses us; trying again may help."""


class LeaseLostError(HsaeError):
    """Another worker holds this job now: whoever sees this must write nothing more and stop."""


class JobCancelledError(HsaeError):
    """The job was cancelled while it ran."""


class WorkerStoppingError(HsaeError):
    """This worker was asked to stop: the job goes back to the queue, at no cost of an attempt."""
