"""What a refused command looks like: one line for the user, and nothing left behind."""

from sqlalchemy import text

from hsae.catalog import transaction
from hsae.demo import backbone_folder

MODEL = ("--model", str(backbone_folder()))


def assert_one_line(result, *words: str) -> None:
    """A user's mistake: exit status, one line, the words that tell what was wrong and what to do."""
    assert result.exit_code != 0, result.output
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("Error: ")
    assert "Traceback" not in result.output
    for word in words:
        assert word in lines[0], lines[0]


def counts(service) -> dict[str, int]:
    """Rows of every table that a submit or a registration could have left behind."""
    with transaction(service.sessions) as session:
        return {
            table: session.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()
            for table in ("study", "job", "dataset", "dataset_class", "activation_set", "sae", "analysis", "model")
        }
