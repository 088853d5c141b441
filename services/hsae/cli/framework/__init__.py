"""The base of every command: settings of this call, connections, completion, lazy groups."""
