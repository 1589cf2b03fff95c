"""The peers: where their code comes from, and an environment for each.

    python -m benchmarks.peers                            what is here and what is not
    python -m benchmarks.peers install NAME … [--python PYTHON]
    python -m benchmarks.peers fetch NAME …   [--from PLACE]

Everything goes into one folder (``--peers``, default `.bench`, which git ignores): `env-NAME` holds
an environment, NAME a clone. Nothing of a peer becomes part of this project.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.record import ROOT

ADAPTERS = Path(__file__).resolve().parent / "adapters"
PLACE = "https://github.com/{owner}/{name}"  # --from or LTHNB_PEERS_FROM names another one


@dataclass(frozen=True)
class Peer:
    """One peer.

    adapter: the file that calls its code. install: the words of one ``pip install`` after another;
    later ones may go against what earlier ones asked for. repository, commit, paths: of a clone,
    and the part of it that is checked out.
    """

    adapter: Path
    install: tuple[str, ...] = ()
    repository: str | None = None
    commit: str | None = None
    paths: tuple[str, ...] = ()


TORCH = "torch==2.13.0"
# setuptools last and alone: torch asks for a newer one than DGL and ray can use.
OLD_SETUPTOOLS = "setuptools==69.5.1"
PEERS = {
    "lightgcn-pytorch": Peer(
        ADAPTERS / "lightgcn_pytorch.py",
        (
            TORCH,
            "numpy==1.26.4 scipy==1.13.1 pandas==2.2.3 scikit-learn==1.5.2 tqdm==4.67.1 "
            "tensorboardX==2.6.2.2 cppimport==22.8.2 pybind11==2.13.6 setuptools==80.9.0",
        ),
        "gusye1234/LightGCN-PyTorch",
        "947ca2b3b1d2d3545b114145710cb06c4e57b3d2",
        ("/code",),
    ),
    "lth-mrs": Peer(
        ADAPTERS / "lth_mrs.py",
        (
            TORCH,
            "dgl==1.1.3 numpy==1.26.4 scipy==1.13.1 pandas==2.2.3 scikit-learn==1.5.2 "
            f"tqdm==4.67.1 packaging==24.2 {TORCH}",
            OLD_SETUPTOOLS,
        ),
        "wangyf6891/LTH-MRS",
        "2952bf2e925addf9d0c628cce5104a3baf7d6884",
        ("/body.py", "/model", "/utils"),
    ),
    "implicit": Peer(
        ADAPTERS / "implicit_bpr.py", ("implicit==0.7.2 numpy==1.26.4 scipy==1.13.1",)
    ),
    "recbole": Peer(
        ADAPTERS / "recbole.py",
        (
            TORCH,
            # its LightGCN uses what newer versions of scipy lack (dok_matrix._update)
            f"recbole==1.2.1 numpy==1.26.4 scipy==1.11.4 pandas==2.2.3 {TORCH}",
            OLD_SETUPTOOLS,
        ),
    ),
}


def python_of(folder: Path, name: str) -> Path:
    """The interpreter of a peer's environment."""
    return folder / f"env-{name}" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


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
    command = ["git", "-C", str(clone), "rev-parse", "HEAD"]
    if not (clone / ".git").exists():
        return None
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None


def install(folder: Path, name: str, python: str) -> None:
    """Make a peer's environment, or bring it to the pinned versions."""
    target = folder / f"env-{name}"
    if not python_of(folder, name).exists():
        subprocess.run([python, "-m", "venv", str(target)], check=True)
    for words in PEERS[name].install:
        print(f"{name}: pip install {words}", flush=True)
        pip = [str(python_of(folder, name)), "-m", "pip", "install", "-q", "--progress-bar", "off"]
        subprocess.run([*pip, *words.split()], check=True)


def fetch(folder: Path, name: str, place: str) -> None:
    """Clone a peer at its commit; only the files that are needed are fetched and checked out."""
    peer, clone = PEERS[name], folder / name
    if peer.repository is None:
        print(f"{name}: comes from PyPI; nothing to clone")
        return
    owner, _, repository = peer.repository.partition("/")
    source = place.format(owner=owner, name=repository)
    print(f"{name}: {source} at {peer.commit}", flush=True)
    if not (clone / ".git").exists():
        command = ["git", "clone", "-q", "--no-checkout", "--filter=blob:none", source, str(clone)]
        subprocess.run(command, check=True)
    for words in (("sparse-checkout", "set", "--no-cone", *peer.paths), ("checkout", "-q")):
        tail = (peer.commit,) if words[0] == "checkout" else ()
        subprocess.run(["git", "-C", str(clone), *words, *tail], check=True)


def main(words: list[str] | None = None) -> None:
    """The command line of this module."""
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.peers",
        description="List, install or fetch the peers that ours is measured beside.",
    )
    p.add_argument("do", nargs="?", default="list", choices=("list", "install", "fetch"))
    p.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PEERS)} (default: all)")
    p.add_argument("--peers", type=Path, default=ROOT / ".bench", help="folder (default: .bench)")
    p.add_argument("--python", default=sys.executable, help="for new environments; DGL needs 3.11")
    p.add_argument(
        "--from",
        dest="place",
        default=os.environ.get("LTHNB_PEERS_FROM", PLACE),
        help=f"where to clone from, with {{owner}} and {{name}} (default: {PLACE})",
    )
    args = p.parse_args(words)
    for name in args.names or PEERS:
        if name not in PEERS:
            p.error(f"{name!r}: expected one of {', '.join(PEERS)}.")
        try:
            if args.do == "install":
                install(args.peers, name, args.python)
            elif args.do == "fetch":
                fetch(args.peers, name, args.place)
            else:
                print(f"{name:18} {missing(args.peers, name) or 'ready'}")
        except (OSError, subprocess.CalledProcessError) as error:
            raise SystemExit(f"{name}: {args.do} failed: {error}") from None


if __name__ == "__main__":
    main()
