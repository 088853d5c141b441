"""A lazy command is imported without a search for garbage, which goes on afterwards."""

import gc
import subprocess
import sys

import pytest

from hsae.cli.framework.lazy_group import LazyCommand

_COMMAND = "import gc\nwas_enabled = gc.isenabled()\n"


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module that says whether garbage was collected while it was imported."""
    (tmp_path / "lazily_imported.py").write_text(_COMMAND)
    (tmp_path / "not_imported.py").write_text("raise RuntimeError('broken')\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "lazily_imported"
    sys.modules.pop("lazily_imported", None)


def test_no_garbage_is_looked_for_during_an_import(module):
    assert gc.isenabled()
    was_enabled: object = LazyCommand(f"{module}:was_enabled", "").load()
    assert was_enabled is False
    assert gc.isenabled()


def test_the_search_goes_on_after_an_import_that_fails(module):
    with pytest.raises(RuntimeError, match="broken"):
        LazyCommand("not_imported:command", "").load()
    assert gc.isenabled()


def test_a_search_that_was_off_stays_off(module):
    gc.disable()
    try:
        LazyCommand(f"{module}:was_enabled", "").load()
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_what_reads_the_catalog_in_sql_declares_no_table():
    """Their declarations take a tenth of the time in which `jobs list` starts."""
    code = (
        "import sys, hsae.cli.jobs.listing\n"
        "assert not [name for name in sys.modules if name.startswith('hsae.catalog.tables')]\n"
        "from hsae.catalog import Base, Job\n"
        "assert Job.__table__ in Base.metadata.tables.values() and 'image_checksum' in Base.metadata.tables\n"
        "import hsae.catalog\n"
        "assert all(hasattr(hsae.catalog, name) for name in hsae.catalog.__all__)\n"
        "assert not hasattr(hsae.catalog, 'Absent')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
