"""The code of each kind of job: plain functions of (request, context) that make one kind of artifact each."""
