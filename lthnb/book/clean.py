"""Clean notebooks: sources without what running them leaves behind."""

import json
from pathlib import Path

import typer


def clean_notebook(text: str) -> str:
    """A notebook's text without outputs, execution counts and editors' metadata; cell ids, tags and
    the kernel's name stay. A clean notebook comes back byte for byte."""
    nb = json.loads(text)
    nb["nbformat"], nb["nbformat_minor"] = 4, 5
    for number, cell in enumerate(nb["cells"]):
        cell.setdefault("id", f"cell-{number}")
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
        if isinstance(cell["source"], str):
            cell["source"] = cell["source"].splitlines(keepends=True)
    return written(nb)


def written(nb: dict, **metadata: str) -> str:
    """A notebook as text; of its metadata the cells' tags, what readers need, and these."""
    for cell in nb["cells"]:
        tags = cell["metadata"].get("tags")
        cell["metadata"] = {"tags": tags} if tags else {}
    # The name `python3` is what every Jupyter installation calls its own interpreter.
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    nb["metadata"] = {"kernelspec": kernel, "language_info": {"name": "python"}, **metadata}
    return json.dumps(nb, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def main(notebooks: list[Path], check: bool = False) -> None:
    """Clean notebooks; with --check, only name those that are not clean, and exit with 1."""
    texts = {path: path.read_text(encoding="utf-8") for path in notebooks}
    dirty = [path for path, text in texts.items() if clean_notebook(text) != text]
    for path in dirty:
        print(f"{path}: {'has outputs or noise, see `make format`' if check else 'cleaned'}")
        if not check:
            path.write_text(clean_notebook(texts[path]), encoding="utf-8")
    raise typer.Exit(check and len(dirty) > 0)


if __name__ == "__main__":
    typer.run(main)
