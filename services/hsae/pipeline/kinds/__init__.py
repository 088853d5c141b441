"""The kinds of jobs, one file each: what is asked for, and everything about it but the code that does it.

A file of `pipeline/stages/` has that code; it is imported when a job runs, so that commands load no torch.
"""
