"""SAEs as files of other programs, and their directions beside each other."""
