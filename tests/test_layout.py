"""The order of the modules, and what the core may import."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "lthnb"

# Each imports only from those before it. A folder counts as one, and may import within itself.
ORDER = [
    "config",
    "paper",
    "metrics",
    "rng",
    "data",
    "datasets",
    "sampling",
    "pruning",
    "models",
    "finders",
    "stats",
    "kernels",
    "store",
    "packing",
    "control",
    "kept",
    "training",
    "cluster",
    "lottery",
    "cutting",
    "thinning",
    "experiments",
    "plots",
    "face",
    "compressing",
    "book",
    "doctor",
    "commands",
    "__main__",
]
CORE = [*ORDER[: ORDER.index("lottery") + 1], "experiments", "stats", "face", "__main__"]

# The core's dependencies, with what they import themselves.
ALLOWED = {
    *("lthnb", "numpy", "scipy", "torch", "numba", "filelock", "tqdm", "pydantic"),
    *("pandas", "pyarrow", "safetensors", "yaml", "dateutil", "pytz", "tzdata", "six"),
    *("joblib", "typer", "shellingham", "rich", "annotated_doc"),
    *("pooch", "platformdirs", "packaging", "requests", "urllib3", "idna", "certifi"),
    *("charset_normalizer", "pydantic", "pydantic_core", "annotated_types", "typing_inspection"),
    *("llvmlite", "torchgen", "functorch", "triton", "nvidia"),
    *("typing_extensions", "sympy", "mpmath", "networkx", "jinja2", "markupsafe", "fsspec"),
    *("setuptools", "pkg_resources", "_distutils_hack", "sitecustomize", "usercustomize"),
}

BLOCK = f"""
import importlib.abc, importlib, sys
allowed = set(sys.stdlib_module_names) | {ALLOWED!r}

class OnlyTheCore(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in allowed and not top.startswith(("_", "nvidia")):
            raise ModuleNotFoundError(f"{{name}} is not among the core's dependencies", name=name)

sys.meta_path.insert(0, OnlyTheCore())
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def units() -> dict[str, list[Path]]:
    """Module or folder name → its files."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if name != "__init__":
            found.setdefault(name, []).append(path)
    return found


def imported(path: Path) -> set[str]:
    """The names of our modules that a file imports, at its top or inside a function."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {a.name for a in node.names if a.name.startswith("lthnb.")}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}:{node.lineno}: write `from lthnb.x import y`"
            if node.module == "lthnb":
                names |= {f"lthnb.{a.name}" for a in node.names if a.name != "__version__"}
            elif (node.module or "").startswith("lthnb."):
                names.add(node.module)
    return {name.split(".")[1] for name in names}


def test_every_module_has_a_place():
    assert set(units()) <= set(ORDER), "add the new module to ORDER and to the README's tree"


@pytest.mark.parametrize("name", ORDER)
def test_imports_only_what_is_above(name):
    above = {*ORDER[: ORDER.index(name)], *([name] if (PACKAGE / name).is_dir() else [])}
    for path in units().get(name, []):
        below = imported(path) - above
        assert not below, f"{path.relative_to(ROOT)} imports {below}, which come after it"


def test_package_itself_loads_nothing():
    assert imported(PACKAGE / "__init__.py") == set()


def test_core_needs_only_the_core_dependencies():
    """A bare GPU box has no papermill or matplotlib."""
    names = [f"lthnb.{name}" for name in CORE if name in units()]
    command = [sys.executable, "-c", BLOCK, *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_block_blocks():
    command = [sys.executable, "-c", BLOCK, "matplotlib"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    assert "matplotlib is not among" in done.stderr
