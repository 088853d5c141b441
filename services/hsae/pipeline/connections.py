"""The servers as one program sees them: its settings, and open connections to the parts that it needs."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session, sessionmaker

    from hsae.pipeline.queue.notifier import Notifier
    from hsae.settings import Settings
    from hsae.store.objects import ObjectStore


@dataclass
class Connections:
    """The service as one command or one notebook sees it; nothing is opened before it is used.

    Each part is also imported when it is first used: most commands need one or two of them, and `hsae-admin --help`,
    which imports this module, needs none.
    """

    home: Path | None = None

    @cached_property
    def settings(self) -> "Settings":
        """The settings, read once."""
        # At first use: see the class.
        from hsae.settings import load_settings

        return load_settings(self.home)

    def use(self, settings: "Settings") -> "Settings":
        """Continue with other settings than those of the environment."""
        self.__dict__["settings"] = settings
        return settings

    @cached_property
    def engine(self) -> "Engine":
        """The catalog; its schema is checked."""
        # At first use: see the class.
        from hsae.catalog import connect
        from hsae.catalog.server.schema_version import require_current_schema

        engine = connect(self.settings)
        require_current_schema(engine)
        return engine

    @cached_property
    def sessions(self) -> "sessionmaker[Session]":
        """Sessions on the catalog."""
        # At first use: see the class.
        from hsae.catalog import session_factory

        return session_factory(self.engine)

    @cached_property
    def store(self) -> "ObjectStore":
        """The object store; its bucket exists."""
        # At first use: see the class.
        from hsae.store.objects import ObjectStore

        store = ObjectStore.from_settings(self.settings)
        store.ensure_bucket()
        return store

    @cached_property
    def notifier(self) -> "Notifier":
        """The broker; it has answered."""
        # At first use: see the class.
        from hsae.pipeline.queue.notifier import Notifier

        notifier = Notifier(self.settings)
        notifier.check()
        return notifier
