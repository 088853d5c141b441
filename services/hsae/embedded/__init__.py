"""A private Postgres, Valkey and SeaweedFS for one machine, started as child processes on loopback."""

from hsae.embedded.stack import ServerStatus, Stack, StackInfo, StackStatus

__all__ = ["ServerStatus", "Stack", "StackInfo", "StackStatus"]
