"""The notebooks in examples/ run from a fresh kernel, and are kept without outputs."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[2] / "examples"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def run(path: Path, folder: Path) -> nbformat.NotebookNode:
    """Run every cell; an exception fails the test."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    return notebook


def shown(notebook, kind: str) -> list[str]:
    """What cells show, in one of its forms."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output.data[kind] for output in outputs if kind in output.get("data", {})]


@pytest.fixture(autouse=True)
def own_kernel(tmp_path, monkeypatch):
    """Kernels keep their files in a folder of the test's."""
    for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))


@pytest.mark.slow
def test_look_at_latents(studied, mapped, monkeypatch, tmp_path):
    for name, value in studied.environment.items():
        monkeypatch.setenv(name, value)
    notebook = run(FOLDER / "look_at_latents.ipynb", tmp_path)
    pages = "".join(shown(notebook, "text/html"))
    assert "hsae-gallery" in pages
    assert "hsae-explanation" in pages
    assert f"latent {mapped}" in pages
    assert "relevancy, image" in pages
    assert "rises" in pages
    assert len(shown(notebook, "image/png")) == 2  # the curves and the image


@pytest.mark.slow
def test_your_own_activations(monkeypatch, tmp_path):
    for name in ("HSAE_DATABASE_URL", "HSAE_S3_ENDPOINT", "HSAE_BROKER_URL"):
        monkeypatch.setenv(name, "nowhere")  # it needs no server
    notebook = run(FOLDER / "your_own_activations.ipynb", tmp_path)
    pages = "".join(shown(notebook, "text/html"))
    for word in ("coherence_excess", "shuffled_tree", "first half", "f1_adjusted_shuffled"):
        assert word in pages
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    trainings, scorings = code.count("hsae.train("), code.count("hsae.score(")
    assert code.count("[parts.train], ") == trainings  # what is scored did not train
    assert code.count("split=parts") == scorings


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_kept_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
    assert path.stat().st_size < 20_000


def test_there_are_three():
    """The one about birds runs in tests/pipeline/stages/interventions, on a study that has what it needs."""
    assert [path.stem for path in NOTEBOOKS] == ["look_at_latents", "unlearn_bird", "your_own_activations"]
