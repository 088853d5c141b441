"""Asks `results` of the scores that a test module has planted, its fixture `planted`."""

import json

import pytest


@pytest.fixture
def ask(admin, planted):
    """The JSON of `hsae-admin results ARGUMENTS`, of all studies unless the arguments say which."""

    def run(*arguments: object):
        if arguments[0] != "compare" and not {"--study", "--analysis"} & set(arguments):
            arguments = (*arguments, "--study", "all")
        result = admin(planted, "results", *arguments, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return run
