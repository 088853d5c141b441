"""What jobs leave behind: lost objects are made again, unneeded ones are deleted."""
