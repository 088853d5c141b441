"""The code of each kind of job: functions of (request, context), each of which makes one kind of artifact."""
