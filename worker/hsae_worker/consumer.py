"""Messages from the broker: whatever is no task is dropped, and costs the worker nothing but a line in its log."""

import logging
from collections.abc import Callable
from typing import Any

from celery.worker.consumer import Consumer as CeleryConsumer

log = logging.getLogger(__name__)


class Consumer(CeleryConsumer):  # type: ignore[misc]
    """Celery's own ends the whole worker at a message whose body is no task; the next worker gets it then."""

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], None]:
        """The handler of every message."""
        handle = super().create_task_handler(*args, **kwargs)

        def on_message(message: Any) -> None:
            try:
                handle(message)
            except (TypeError, ValueError, KeyError, AttributeError, IndexError) as error:
                log.error("a message that is no task was dropped (%s)", type(error).__name__)
                message.reject()

        return on_message
