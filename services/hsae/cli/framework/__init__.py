"""What every command stands on: the settings of this call, connections, completion, lazy groups."""
