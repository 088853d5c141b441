"""One job on one worker: claim, stage, outcome, log."""
