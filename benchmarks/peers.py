"""The peers: where their code comes from, and an environment for each.

    python -m benchmarks.peers                            what is here and what is not
    python -m benchmarks.peers install NAME … [--python PYTHON]
    python -m benchmarks.peers fetch NAME …

Everything goes into one folder (``--peers``, default `.bench`, which git ignores): `env-NAME` holds
an environment, NAME a clone. Nothing of a peer becomes part of this project.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.plan import PEERS, ROOT, one_of

PLACE = "https://github.com/{owner}/{name}"  # LTHNB_PEERS_FROM names another one


def python_of(folder: Path, name: str) -> Path:
    """The interpreter of a peer's environment."""
    return folder / f"env-{name}" / "bin" / "python"


def missing(folder: Path, name: str) -> str | None:
    """Why a peer cannot run, and what to do; None where it can."""
    peer = PEERS[name]
    if not python_of(folder, name).exists():
        return f"no environment; python -m benchmarks.peers install {name}"
    if peer.commit and (found := head(folder / name)) != peer.commit:
        what = f"the clone is at {found[:12]}" if found else "no clone"
        return f"{what}; python -m benchmarks.peers fetch {name}"
    return None


def head(clone: Path) -> str | None:
    """The commit that a clone is at; None where there is no clone."""
    if not (clone / ".git").exists():
        return None
    command = ["git", "-C", str(clone), "rev-parse", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip() or None


def install(folder: Path, name: str, python: str) -> None:
    """Make a peer's environment, or bring it to the pinned versions."""
    if not python_of(folder, name).exists():
        subprocess.run([python, "-m", "venv", str(folder / f"env-{name}")], check=True)
    for words in PEERS[name].install:
        print(f"{name}: pip install {words}", flush=True)
        pip = [str(python_of(folder, name)), "-m", "pip", "install", "-q", "--progress-bar", "off"]
        subprocess.run([*pip, *words.split()], check=True)


def fetch(folder: Path, name: str) -> None:
    """Clone a peer at its commit."""
    peer, clone = PEERS[name], folder / name
    if peer.repository is None:
        print(f"{name}: comes from PyPI; nothing to clone")
        return
    owner, _, repository = peer.repository.partition("/")
    source = os.environ.get("LTHNB_PEERS_FROM", PLACE).format(owner=owner, name=repository)
    print(f"{name}: {source} at {peer.commit}", flush=True)
    if not (clone / ".git").exists():
        subprocess.run(["git", "clone", "-q", "--no-checkout", source, str(clone)], check=True)
    subprocess.run(["git", "-C", str(clone), "checkout", "-q", peer.commit], check=True)


def main(words: list[str] | None = None) -> None:
    """The command line of this module."""
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.peers",
        description="List, install or fetch the peers that ours is measured beside.",
    )
    p.add_argument("do", nargs="?", default="list", choices=("list", "install", "fetch"))
    p.add_argument("names", nargs="*", type=one_of(PEERS), help=f"of {', '.join(PEERS)} (all)")
    p.add_argument("--peers", type=Path, default=ROOT / ".bench", help="folder (default: .bench)")
    p.add_argument("--python", default=sys.executable, help="for new environments; DGL needs 3.11")
    args = p.parse_args(words)
    for name in args.names or PEERS:
        try:
            if args.do == "install":
                install(args.peers, name, args.python)
            elif args.do == "fetch":
                fetch(args.peers, name)
            else:
                print(f"{name:18} {missing(args.peers, name) or 'ready'}")
        except (OSError, subprocess.CalledProcessError) as error:
            raise SystemExit(f"{name}: {args.do} failed: {error}") from None


if __name__ == "__main__":
    main()
