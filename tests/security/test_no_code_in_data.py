"""Nothing that is read can carry code: no pickle in any disguise, no evaluated text, no shell, no remote code."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("services", "worker", "migrations", "benchmarks", "training")
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))

PICKLING_MODULES = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
PICKLING_CALLS = {
    "torch.load", "torch.save", "torch.hub.load", "torch.jit.load", "pandas.read_pickle", "pd.read_pickle",
    "yaml.full_load", "yaml.unsafe_load", "yaml.full_load_all", "yaml.unsafe_load_all",
}  # fmt: skip
SHELL_CALLS = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"}
SAFE_LOADERS = {"yaml.SafeLoader", "SafeLoader", "yaml.CSafeLoader", "CSafeLoader"}


def findings(source: str) -> Iterator[str]:
    """What in a module's source could run code that came as data."""
    tree = ast.parse(source)
    safe_loaders = SAFE_LOADERS | {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and SAFE_LOADERS & {ast.unparse(base) for base in node.bases}
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from (f"imports {name}" for name in names if name.split(".")[0] in PICKLING_MODULES)
        elif isinstance(node, ast.Call):
            yield from _in_call(node, safe_loaders)
        elif isinstance(node, ast.Constant) and node.value in ("pickle", "application/x-python-serialize"):
            yield "names the serializer pickle"


def _in_call(call: ast.Call, safe_loaders: set[str]) -> Iterator[str]:
    name = ast.unparse(call.func)
    keywords = {keyword.arg: keyword.value for keyword in call.keywords}
    if name in PICKLING_CALLS | SHELL_CALLS | {"eval", "exec", "compile", "__import__"}:
        yield f"calls {name}"
    if name in ("yaml.load", "yaml.load_all"):
        loader = keywords.get("Loader") or (call.args[1] if len(call.args) > 1 else None)
        if loader is None or ast.unparse(loader) not in safe_loaders:
            yield f"calls {name} without a safe loader"
    for keyword in ("shell", "allow_pickle", "trust_remote_code"):
        value = keywords.get(keyword)
        if value is not None and not (isinstance(value, ast.Constant) and value.value is False):
            yield f"{keyword}={ast.unparse(value)}"
    if name.endswith(".from_pretrained"):
        if "trust_remote_code" not in keywords:
            yield f"{name} without trust_remote_code=False"
        of_weights = not any(part in name.lower() for part in ("config", "processor", "tokenizer"))
        safe = keywords.get("use_safetensors")
        if of_weights and not (isinstance(safe, ast.Constant) and safe.value is True):
            yield f"{name} without use_safetensors=True"


def test_there_are_sources():
    assert len(SOURCES) > 80
    assert all(any(path.is_relative_to(ROOT / folder) for path in SOURCES) for folder in FOLDERS)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_data_becomes_code(path):
    assert list(findings(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from cloudpickle import loads",
        "import joblib.memory",
        "import torch\ntorch.load(path, weights_only=True)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
        "yaml.load(text)",
        "yaml.load(text, Loader=yaml.Loader)",
        "class Loose(yaml.Loader): pass\nyaml.load(text, Loose)",
        "eval(text)",
        "exec(text)",
        "subprocess.run(line, shell=True)",
        "os.system(line)",
        "AutoModel.from_pretrained(name, use_safetensors=True)",
        "AutoModel.from_pretrained(name, use_safetensors=True, trust_remote_code=True)",
        "AutoModel.from_pretrained(name, use_safetensors=True, trust_remote_code=settings.trust)",
        "Dinov2Model.from_pretrained(name, trust_remote_code=False)",
        "app.conf.update(accept_content=['json', 'pickle'])",
    ],
)
def test_the_check_finds(source):
    assert list(findings(source))


@pytest.mark.parametrize(
    "source",
    [
        "model.eval()",
        "re.compile(pattern)",
        "np.load(path, allow_pickle=False)",
        "yaml.safe_load(text)",
        "yaml.load(text, Loader=yaml.SafeLoader)",
        "class Strict(yaml.SafeLoader): pass\nyaml.load(text, Strict)",
        "subprocess.run(['ls'])",
        "safetensors.torch.load(content)",
        "AutoConfig.from_pretrained(name, trust_remote_code=False)",
        "Dinov2Model.from_pretrained(name, use_safetensors=True, trust_remote_code=False)",
    ],
)
def test_the_check_leaves_alone(source):
    assert list(findings(source)) == []
