"""What a run is: frozen dataclasses, their canonical text, and the key made from it.

A run is described by four things, and its key is a hash of exactly those four: a :class:`Spec`
(what is trained, and how), the digest of the data as split, an initialisation, and the digest of
a mask. Two runs with one key are the same computation; whatever must not change a result (the
number of threads, a profile's name, the Ks reported) is kept out of here.

Every setting carries its meaning, unit and source beside it, in its ``metadata``; the command line
and the book read their help from there.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import math
from dataclasses import dataclass, field
from typing import Any

NUMERICS = {
    # Raise a number when a change alters what that component computes. Old records stay readable;
    # they answer to another key from then on.
    "sampling": 1,  # X⁰ and the triplet stream
    "model": 1,  # propagation, loss
    "pruning": 1,  # criteria and the choice among ties; part of a pruning's key alone
    "selection": 1,  # split, ranking, choice of the best epoch
    "reference": 1,  # each step has a number of its own
    "cpu": 1,
    "cuda": 1,
}

STEPS = ("auto", "reference", "cpu")
PROTOCOLS = ("validated", "paper")
BACKBONES = ("mf", "lightgcn")
COMPRESSIONS = ("none", "linear")
METHODS = ("imp", "omp", "rp", "rp_x0")
CRITERIA = ("magnitude", "row_rank")
SCOPES = ("join", "user", "item", "user_item")
REWINDS = ("rewind", "reinit", "continue", "late")

SELECTION_K = 20  # epochs are chosen by Recall@20, in both protocols (§4.1: K = 20)
DENSE = "dense"  # the mask digest of no mask at all


class LthnbError(Exception):
    """What a user can mend: the message says what was found, what was expected and what to do."""

    def _render_traceback_(self) -> list[str]:
        """In a notebook the message stands alone (IPython asks for this)."""
        return [f"{type(self).__name__}: {self}"]


class ConfigError(LthnbError, ValueError):
    """A setting that cannot be: names it, what was found and what is allowed."""


def nearest(name: str, known) -> str:
    """`` Did you mean 'x'?`` when one of `known` is close to `name`, else an empty string."""
    close = difflib.get_close_matches(str(name), [str(k) for k in known], n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


@dataclass(frozen=True)
class Between:
    """A number in an interval, for the check of a setting; ends are allowed unless said open."""

    low: float
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return above and below

    def __str__(self) -> str:
        low = f"{'>' if self.open_low else '≥'} {self.low:g}"
        if self.high == math.inf:
            return f"a number {low}"
        return f"a number {low} and {'<' if self.open_high else '≤'} {self.high:g}"


def setting(
    default: Any,
    allowed: Any,
    meaning: str,
    *,
    unit: str = "",
    source: str = "",
    only_for: tuple[str, ...] = (),
    added_later: bool = False,
):
    """A dataclass field that knows what it means.

    `allowed` is a tuple of choices or a :class:`Between`. `only_for` names the backbones that read
    the setting: for the others it is left out of the canonical text, since it changes nothing.
    `added_later` leaves it out while it has its default, so that older keys stay what they are.
    """
    extra = {} if default is dataclasses.MISSING else {"default": default}
    return field(
        **extra,
        metadata={
            "allowed": allowed,
            "meaning": meaning,
            "unit": unit,
            "source": source,
            "only_for": only_for,
            "added_later": added_later,
        },
    )


def _check(owner: Any, f: dataclasses.Field) -> None:
    """Refuse a wrong value by name; store integers given for a float as that float."""
    value, allowed = getattr(owner, f.name), f.metadata["allowed"]
    where = f"{type(owner).__name__}.{f.name}"
    if isinstance(allowed, tuple):
        if value not in allowed or (isinstance(value, bool) is not isinstance(allowed[0], bool)):
            raise ConfigError(
                f"{where}: found {value!r}, expected one of {', '.join(map(repr, allowed))}."
                + nearest(value, allowed)
            )
        return
    wants_float = isinstance(f.default, float)
    kinds = (int, float) if wants_float else (int,)
    is_number = isinstance(value, kinds) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value not in allowed:
        what = "" if wants_float else " (a whole one)"
        raise ConfigError(f"{where}: found {value!r}, expected {allowed}{what}. {_help(f)}")
    if wants_float:
        object.__setattr__(owner, f.name, float(value))


def _help(f: dataclasses.Field) -> str:
    m = f.metadata
    unit = f" [{m['unit']}]" if m.get("unit") else ""
    source = f" ({m['source']})" if m.get("source") else ""
    return f"{f.name}: {m['meaning']}{unit}{source}."


class _Checked:
    """Checks each setting at construction and gives its text: what all descriptions share."""

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):
            if "allowed" in f.metadata:
                _check(self, f)

    def described(self) -> dict[str, Any]:
        """The settings that matter, as plain data: what the canonical text is made of."""
        backbone = getattr(self, "backbone", None)
        out: dict[str, Any] = {}
        for f in dataclasses.fields(self):
            value, m = getattr(self, f.name), f.metadata
            if m.get("only_for") and backbone not in m["only_for"]:
                continue
            if m.get("added_later") and value == f.default:
                continue
            out[f.name] = value.described() if isinstance(value, _Checked) else value
        return out


def explain(cls: type) -> dict[str, str]:
    """Setting → its meaning, unit and source in one line, for a command line or a page."""
    return {f.name: _help(f) for f in dataclasses.fields(cls) if "meaning" in f.metadata}


@dataclass(frozen=True)
class Model(_Checked):
    """What is trained: one table of users and items, and how scores come from it (§3.2)."""

    backbone: str = setting("mf", BACKBONES, "the recommender model", source="§3.2")
    embedding_size: int = setting(
        32,
        Between(1),
        "F, columns of the table",
        unit="values per user or item",
        source="32 in the authors' commands for Table 2; the paper does not say",
    )
    layers: int = setting(
        3,
        Between(1),
        "K, propagation layers",
        source="the authors' commands",
        only_for=("lightgcn",),
    )
    layer_combination: str = setting(
        "mean",
        ("mean", "sum"),
        "how the K+1 layers become one output: their mean, as in the authors' code, "
        "or their sum, as Eq. 6 with α = 1",
        source="Eq. 6",
        only_for=("lightgcn",),
    )
    compression: str = setting(
        "none",
        COMPRESSIONS,
        "what is trained: the table itself (none), or linear maps from a dense teacher's frozen "
        "table to one of F columns (linear: LCM)",
        source="§4.4; LightEmb in gusye1234/KD_on_Ranking",
        added_later=True,
    )


@dataclass(frozen=True)
class Training(_Checked):
    """How it is trained and how its best epoch is chosen (§4.1, and `facts` of the code)."""

    learning_rate: float = setting(
        1e-3, Between(0, open_low=True), "Adam's step size", source="§4.1"
    )
    l2: float = setting(1e-4, Between(0), "λ, weight of the L2 term", source="§4.1")
    l2_scope: str = setting(
        "batch",
        ("batch", "table"),
        "rows that the L2 term covers: those of the batch, as in the code, "
        "or the whole table, as Eqs. 4 and 7 are written",
        source="Eqs. 4, 7",
    )
    batch_size: int = setting(
        2048, Between(1), "triplets in a step", unit="triplets", source="§4.1"
    )
    epochs: int = setting(
        1000,
        Between(1),
        "J, most epochs; an epoch is as many triplets as there are training pairs",
        unit="epochs",
        source="§4.1",
    )
    patience: int = setting(
        100,
        Between(1),
        "epochs without a better Recall@20 after which training stops; Algorithm 1 as printed "
        "has none: give as many as `epochs`",
        unit="epochs",
        source="the authors' code",
    )
    evaluate_every: int = setting(
        1, Between(1), "epochs between two evaluations", unit="epochs", source="the authors' code"
    )
    protocol: str = setting(
        "validated",
        PROTOCOLS,
        "on which part the best epoch is chosen: `validated` on valid, `paper` on test with valid "
        "joined into train",
        source="design; the authors' code",
    )
    order_seed: int = setting(
        0, Between(0, 2**63 - 1), "seed of the triplet stream, apart from that of X⁰"
    )
    step: str = setting(
        "auto", STEPS, "what computes a step; `auto` is resolved before anything is keyed"
    )
    dtype: str = setting("float32", ("float32", "float64"), "type of the table and the moments")

    @property
    def chosen_on(self) -> str:
        """The part on which the best epoch is chosen: valid, or under `paper` test."""
        return "test" if self.protocol == "paper" else "valid"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.evaluate_every > self.patience < self.epochs:
            raise ConfigError(
                f"Training.evaluate_every: found {self.evaluate_every}, expected at most patience "
                f"= {self.patience}; training would stop before the first evaluation."
            )


@dataclass(frozen=True)
class Spec(_Checked):
    """A model and how it is trained: all of a run but its data, start and mask."""

    model: Model = field(default_factory=Model)
    training: Training = field(default_factory=Training)

    def with_model(self, **changes: Any) -> Spec:
        """The same, with some settings of :class:`Model` changed."""
        return dataclasses.replace(self, model=dataclasses.replace(self.model, **changes))

    def with_training(self, **changes: Any) -> Spec:
        """The same, with some settings of :class:`Training` changed."""
        return dataclasses.replace(self, training=dataclasses.replace(self.training, **changes))


# Initialisations: objects of their own, since two runs with one mask may start differently.


@dataclass(frozen=True)
class Seeded(_Checked):
    """X⁰ from a seed: Xavier-uniform over all rows at once, from the counter stream."""

    seed: int = setting(0, Between(0, 2**63 - 1), "seed of X⁰")

    def described(self) -> dict[str, Any]:
        return {"init": "seeded", "seed": self.seed}


@dataclass(frozen=True)
class Rotated(_Checked):
    """Another start times an orthogonal F × F matrix, which the store keeps under `rotation`.

    The matrix is named by its digest and stored, never recomputed: an eigenvector's sign is no
    constant of nature.
    """

    base: Any
    rotation: str

    def described(self) -> dict[str, Any]:
        return {"init": "rotated", "of": self.base.described(), "rotation": self.rotation}


@dataclass(frozen=True)
class Snapshot(_Checked):
    """The weights of another run at an epoch: late rewinding (Renda 2020), or `continue`.

    `epoch` counts from 1 (after the first epoch), or is ``"best"``.
    """

    run: str
    epoch: int | str = "best"

    def __post_init__(self) -> None:
        whole = isinstance(self.epoch, int) and not isinstance(self.epoch, bool)
        if self.epoch != "best" and not (whole and self.epoch >= 1):
            raise ConfigError(
                f"Snapshot.epoch: found {self.epoch!r}, expected 'best' or an epoch ≥ 1."
            )

    def described(self) -> dict[str, Any]:
        return {"init": "snapshot", "run": self.run, "epoch": self.epoch}


@dataclass(frozen=True)
class Compressed(_Checked):
    """LCM's start: the best table of another run, its teacher, frozen; and maps from a seed.

    teacher: key of a dense run, which may have any embedding size.
    """

    teacher: str
    seed: int = setting(0, Between(0, 2**63 - 1), "seed of the maps")

    def described(self) -> dict[str, Any]:
        return {"init": "compressed", "teacher": self.teacher, "seed": self.seed}


Init = Seeded | Rotated | Snapshot | Compressed


def init_from(described: dict[str, Any]) -> Init:
    """The initialisation that ``described()`` gave, as read back from a record."""
    kind = described.get("init")
    if kind == "seeded":
        return Seeded(described["seed"])
    if kind == "rotated":
        return Rotated(init_from(described["of"]), described["rotation"])
    if kind == "snapshot":
        return Snapshot(described["run"], described["epoch"])
    if kind == "compressed":
        return Compressed(described["teacher"], described["seed"])
    raise ConfigError(
        f"initialisation: found {kind!r}, expected seeded, signs, rotated, snapshot or compressed."
    )


def spec_from(described: dict[str, Any]) -> Spec:
    """The spec that ``described()`` gave, as read back from a record; an unknown setting is refused
    with the nearest known name."""
    parts, classes = {}, {"model": Model, "training": Training}
    for name in described:
        if name not in classes:
            raise ConfigError(
                f"spec: unknown part {name!r}, expected model or training." + nearest(name, classes)
            )
    for name, cls in classes.items():
        given = described.get(name, {})
        known = {f.name for f in dataclasses.fields(cls)}
        for key in given:
            if key not in known:
                raise ConfigError(
                    f"{cls.__name__}: unknown setting {key!r}, expected one of "
                    f"{', '.join(sorted(known))}." + nearest(key, known)
                )
        parts[name] = cls(**given)
    return Spec(**parts)


def canonical(described: dict[str, Any]) -> str:
    """One text for one description: sorted JSON, no white space, floats as Python prints them."""
    return json.dumps(
        described, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )


def digest_text(text: str) -> str:
    """The first 128 bits of SHA-256, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def run_text(
    spec: Spec, data_digest: str, init: Init, mask_digest: str, device: str = "cpu"
) -> str:
    """The canonical text of a training, from which its key is made.

    device: where it runs; elsewhere than on a CPU bits differ, so that its kind is in the text.
    Raises ConfigError where the step is still ``auto``: a key names the step that runs.
    """
    step = spec.training.step
    if step == "auto":
        raise ConfigError(
            "Training.step: found 'auto', expected a step by name; call steps.resolve(spec) first."
        )
    return canonical(
        {
            "spec": spec.described(),
            "data": data_digest,
            "init": init.described(),
            "mask": mask_digest,
            "numerics": {k: NUMERICS[k] for k in ("sampling", "model", "selection", step)},
            **({} if device == "cpu" else {"device": device.partition(":")[0]}),
        }
    )


def run_key(spec: Spec, data_digest: str, init: Init, mask_digest: str, device: str = "cpu") -> str:
    """The key of a training: 32 hexadecimal digits. See :func:`run_text`."""
    return digest_text(run_text(spec, data_digest, init, mask_digest, device))


@dataclass(frozen=True)
class Ladder(_Checked):
    """A ladder: how masks are found, rung by rung (Algorithm 1 and its rivals).

    A ladder goes by rate (`pruning_rate`, `rungs`) or, where `densities` is not empty, by those.
    """

    method: str = setting(
        "imp",
        METHODS,
        "imp: prune the last rung's weights; omp: prune the dense model's, once per density; "
        "rp: a random mask over a start of its own, as the paper's code has it; "
        "rp_x0: the same mask over X⁰",
        source="§3.4, §4.3",
    )
    pruning_rate: float = setting(
        0.1,
        Between(0, 1, open_low=True, open_high=True),
        "pr, share of the surviving entries pruned at each rung",
        source="§4.1",
    )
    rungs: int = setting(30, Between(0), "I, prunings; rung 0 is the dense model", source="§4.1")
    densities: tuple[float, ...] = ()  # explicit densities to visit, falling, each in (0, 1)
    scope: str = setting(
        "join",
        SCOPES,
        "one threshold over users and items (join), users or items alone, or one threshold a side",
        source="the authors' code",
    )
    rewind: str = setting(
        "rewind",
        REWINDS,
        "where a rung starts: X⁰ (rewind), a fresh X⁰ (reinit), the last rung's trained weights "
        "(continue), or the dense model's weights after `rewind_epoch` epochs (late)",
        source="§4.5; Renda 2020 for late",
    )
    rewind_epoch: int = setting(
        1, Between(1), "epoch of late rewinding; read by `late` alone", unit="epochs"
    )
    prune_from: str = setting(
        "best",
        ("best", "last"),
        "weights that are pruned: the best epoch's, as in the code, or the last epoch's, "
        "as Algorithm 1 is printed",
        source="Algorithm 1; the authors' code",
    )
    seed: int = setting(0, Between(0, 2**62 - 1), "seed of X⁰ and, for rp, of the mask")
    criterion: str = setting(
        "magnitude",
        CRITERIA,
        "what is pruned first: entries of the smallest magnitude (magnitude), or those that are "
        "smallest in their own row (row_rank), so that all rows keep about as many",
        source="Algorithm 1 for magnitude",
    )

    @property
    def trainings(self) -> int:
        """Trainings of the whole ladder, the dense one among them."""
        return 1 + (len(self.densities) or self.rungs)

    def __post_init__(self) -> None:
        super().__post_init__()
        densities = tuple(float(d) for d in self.densities)
        object.__setattr__(self, "densities", densities)
        for before, after in zip((1.0, *densities), densities, strict=False):
            if not 0.0 < after < before:
                raise ConfigError(
                    f"Ladder.densities: found {densities!r}, expected falling numbers, each > 0 "
                    "and < 1 (the dense model is rung 0 and needs no entry)."
                )
