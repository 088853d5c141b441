"""From what a user asks for to jobs: requests and their keys, study files, the plan."""
