"""The kinds of jobs, one file each: the request, and all facts about the kind except the code that runs.

The code is in a file of `pipeline/stages/`. It is imported when a job runs, so that commands load no torch.
"""
