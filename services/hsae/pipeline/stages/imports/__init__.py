"""The code of the jobs that bring in what another program made."""
