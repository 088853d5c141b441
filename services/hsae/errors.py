"""The exceptions that cross package borders.

Everything that a user can cause is a `UserError`. Its message is one line that says what is wrong and how to fix it.
The CLI prints the message to stderr and exits with 1; a job that raises it fails with that line. Any other uncaught
exception is a bug and keeps its traceback.
"""


class HsaeError(Exception):
    """Base of every exception that hsae raises on purpose."""


class UserError(HsaeError):
    """Bad input or a bad environment; the message is one line that says what is wrong and how to fix it."""

    details: tuple[str, ...] = ()
    """Further lines for people, printed before the message if one input has many mistakes."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback."""
        return [*self.details, f"{type(self).__name__}: {self}"]


class ServiceError(UserError):
    """The database, the broker or the object store is unreachable or refuses the request; a retry may help."""


class LeaseLostError(HsaeError):
    """Another worker holds this job now: stop, and write nothing more."""


class JobCancelledError(HsaeError):
    """The job was cancelled while it ran."""


class WorkerStoppingError(HsaeError):
    """This worker was asked to stop: the job returns to the queue, and no attempt is counted."""


class PreprocessingError(HsaeError):
    """A model's image processor cannot turn an image into its input; the message is one line."""
