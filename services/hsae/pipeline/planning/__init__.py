"""From a user's request to jobs: study files, the plan, the submit."""
