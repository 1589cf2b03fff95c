"""What a run is: its settings, their canonical text, and the key made from it.

The key is a hash of four things: a :class:`Spec` (what is trained, and how), the digest of the data
as split, an initialisation, and the digest of a mask. Two runs with one key are the same
computation; what must not change a result (the number of threads, the Ks reported) is not in here.

The names of the settings are part of the canonical text, so they stay what they are.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import hashlib
import json
import re
from collections.abc import Collection, Iterable
from typing import Annotated, Any, Literal, dataclass_transform, get_args

import pydantic
from pydantic import ConfigDict, Field, ValidationError

NUMERICS = {
    # Raise a number when a change alters what that component computes: keys change from then on.
    "sampling": 1,  # X⁰ and the triplet stream
    "model": 1,  # propagation, loss
    "pruning": 1,  # criteria and the choice among ties; part of a pruning's key alone
    "selection": 1,  # split, ranking, choice of the best epoch
    "reference": 1,  # each step has a number of its own
    "cpu": 1,
}

Backbone = Literal["mf", "lightgcn"]
Protocol = Literal["validated", "paper"]
Step = Literal["auto", "reference", "cpu"]
Criterion = Literal["magnitude", "row_rank", "row_floor", "columns"]
BACKBONES, PROTOCOLS, CRITERIA = map(get_args, (Backbone, Protocol, Criterion))
PROPAGATING = ("lightgcn",)  # backbones that read `layers` and `layer_combination`

Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]

SELECTION_K = 20  # epochs are chosen by Recall@20, in both protocols (§4.1: K = 20)
DENSE = "dense"  # the mask digest of no mask at all


class LthnbError(Exception):
    """What a user can mend: the message says what was found, what was expected and what to do."""

    def _render_traceback_(self) -> list[str]:  # IPython asks for it in a notebook
        return [f"{type(self).__name__}: {self}"]


class ConfigError(LthnbError, ValueError):
    """A setting, a name or a mask that cannot be."""


def nearest(name: str, known: Iterable[Any]) -> str:
    """`` Did you mean 'x'?`` where one of `known` is close to `name`, else nothing."""
    close = difflib.get_close_matches(str(name), [str(k) for k in known], n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def one_of(what: str, name: Any, known: Collection[str]) -> None:
    """Refuse a name that is not among those known. Raises ConfigError, with what there is."""
    if name not in known:
        found = f"{what}: found {name!r}, expected one of {', '.join(known)}."
        raise ConfigError(found + nearest(name, known))


RULES = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True)


@dataclass_transform(frozen_default=True, field_specifiers=(Field,))
def settings(cls: type) -> type:
    """A frozen dataclass whose values pydantic checks; a wrong one raises ConfigError. Only an
    integer is converted, for a float."""
    made = pydantic.dataclasses.dataclass(cls, frozen=True, config=RULES)
    check = made.__init__

    @functools.wraps(check)
    def checked(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            check(self, *args, **kwargs)
        except ValidationError as error:
            raise ConfigError(in_one_line(made, error, made.__name__)) from None

    made.__init__ = checked
    return made


def in_one_line(cls: type, error: ValidationError, where: str) -> str:
    """The first thing that pydantic finds wrong: what was found, what is expected, and help.
    where: what to call the settings."""
    found, known = error.errors(include_url=False), cls.__pydantic_fields__
    first = found[0]
    if "error" in first.get("ctx", {}):  # of a check of our own
        return str(first["ctx"]["error"])
    at, value = first["loc"][0], first["input"]
    name = list(known)[at] if isinstance(at, int) else at  # given by its place
    if name not in known:
        expected = f"expected one of {', '.join(known)}."
        return f"{where}: unknown setting {name!r}, {expected}{nearest(name, known)}"
    ways = [one["msg"].removeprefix("Input should be ") for one in found if one["loc"][0] == at]
    expected = re.sub(r"\b(greater|less)\b", r"a number \1", " or ".join(ways), count=1)
    meant = nearest(value, get_args(known[name].annotation))
    about = " ".join((known[name].description or "").split())
    return f"{where}.{name}: found {value!r}, expected {expected}.{meant} {about}".strip()


class Described:
    """What all settings share."""

    def described(self) -> dict[str, Any]:
        """The settings as plain data: what the canonical text is made of."""
        given = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {n: v.described() if isinstance(v, Described) else v for n, v in given.items()}


@settings
class Model(Described):
    """What is trained: one table of users and items, and how scores come from it (§3.2)."""

    backbone: Backbone = "mf"
    """The recommender model (§3.2)."""
    embedding_size: Count = 32
    """F, values per user or item (32 in the authors' commands for Table 2; the paper is silent)."""
    layers: Count = 3
    """K, propagation layers of LightGCN (the authors' commands)."""
    layer_combination: Literal["mean", "sum"] = "mean"
    """How the K+1 layers become one: their mean (the authors' code) or sum (Eq. 6, α = 1)."""
    compression: Literal["none", "linear", "threshold"] = "none"
    """What is trained: the table, maps to it from a frozen teacher's (LCM, §4.4; LightEmb), or the
    table and a threshold for each entry (PEP)."""
    target_density: float = Field(0.5, gt=0, lt=1)
    """At which training ends, with thresholds."""

    def described(self) -> dict[str, Any]:
        """Without what the backbone does not read, and what came later, at its default."""
        given = super().described()
        if self.backbone not in PROPAGATING:
            del given["layers"], given["layer_combination"]
        if self.compression == "none":
            del given["compression"]
        if self.compression != "threshold":
            del given["target_density"]
        return given


@settings
class Training(Described):
    """How it is trained and how its best epoch is chosen (§4.1, and the authors' code)."""

    learning_rate: float = Field(1e-3, gt=0)
    """The optimiser's step size (§4.1)."""
    l2: float = Field(1e-4, ge=0)
    """λ, weight of the L2 term (§4.1), which covers the batch's rows (the authors' code)."""
    batch_size: Count = 2048
    """Triplets in a step (§4.1)."""
    epochs: int = Field(1000, ge=0)
    """J, most epochs; an epoch is as many triplets as there are training pairs (§4.1). With 0 the
    start is scored as it is."""
    patience: Count = 100
    """Epochs without a better Recall@20 after which training stops (the authors' code)."""
    evaluate_every: Count = 1
    """Epochs between two evaluations (the authors' code)."""
    protocol: Protocol = "validated"
    """Where the best epoch is chosen: on valid; or on test, valid joined into train (the code)."""
    order_seed: Seed = 0
    """Seed of the triplet stream."""
    step: Step = "auto"
    """What computes a step; `auto` is resolved before anything is keyed."""
    dtype: Literal["float32", "float64"] = "float32"
    """Type of the table and the moments."""
    optimizer: Literal["adam", "rowwise-adam", "sgd"] = "adam"
    """Adam (§4.1); the same with one second moment for a row of the table, so that steps turn with
    it; or plain gradient descent, whose learning rate should be far larger (30 on our data)."""

    def described(self) -> dict[str, Any]:
        """With what all keys name since there was a choice: the rows that the L2 term covers; and
        without what came later, at its default."""
        given = {**super().described(), "l2_scope": "batch"}
        if self.optimizer == "adam":
            del given["optimizer"]
        return given

    @property
    def chosen_on(self) -> str:
        """The part on which the best epoch is chosen."""
        return "test" if self.protocol == "paper" else "valid"

    def __post_init__(self) -> None:
        if self.evaluate_every > self.patience < self.epochs:
            found = f"Training.evaluate_every: found {self.evaluate_every}"
            raise ConfigError(f"{found}, expected at most the patience, {self.patience}.")


@settings
class Dynamic(Described):
    """Dynamic sparse training: the mask moves while it is trained (:mod:`finders.dynamic`)."""

    share: float = Field(0.5, gt=0, lt=1)
    """Of the kept entries, exchanged at first; it falls to 0 (DSL's `update_ratio`)."""
    every: Count = 5
    """Epochs from one exchange to the next."""
    until: Count = 100
    """The last epoch with an exchange; patience counts from there at the earliest."""


@settings
class Spec(Described):
    """A model and how it is trained: all of a run but its data, start and mask."""

    model: Model = Model()
    training: Training = Training()
    policy: Dynamic | None = None
    """What may change the mask between epochs."""

    def described(self) -> dict[str, Any]:
        """Without a policy where there is none, as in keys made before there were any."""
        return {n: value for n, value in super().described().items() if value is not None}

    def with_model(self, **changes: Any) -> Spec:
        """The same, with some settings of the model changed."""
        return dataclasses.replace(self, model=dataclasses.replace(self.model, **changes))

    def with_training(self, **changes: Any) -> Spec:
        """The same, with some settings of the training changed."""
        return dataclasses.replace(self, training=dataclasses.replace(self.training, **changes))


class Start(Described):
    """Where a table starts: what all initialisations share."""

    def described(self) -> dict[str, Any]:
        return {"init": type(self).__name__.lower(), **super().described()}


@settings
class Seeded(Start):
    """X⁰ from a seed: :func:`sampling.initial_table`."""

    seed: Seed = 0


@settings
class Snapshot(Start):
    """The weights of another run at an epoch: late rewinding (Renda 2020), or `continue`."""

    run: str
    epoch: Literal["best"] | Count = "best"
    """Counted from 1, or the best one."""


@settings
class Compressed(Start):
    """LCM's start: the best table of a dense run, the teacher, of any size; maps from a seed."""

    teacher: str
    seed: Seed = 0


@settings
class Rotated(Start):
    """Another start times an orthogonal F × F matrix, which the store keeps under `rotation`, its
    digest. It is never recomputed: an eigenvector's sign is no constant of nature."""

    of: Seeded | Snapshot | Rotated
    rotation: str


Init = Seeded | Rotated | Snapshot | Compressed
STARTS = {cls.__name__.lower(): cls for cls in get_args(Init)}


def init_from(described: dict[str, Any]) -> Init:
    """The initialisation that ``described()`` gave, from a record."""
    given = {n: init_from(v) if n == "of" else v for n, v in described.items()}
    return STARTS[given.pop("init")](**given)


def spec_from(described: dict[str, Any]) -> Spec:
    """The spec that ``described()`` gave, as read back from a record."""
    parts = {"model": Model, "training": Training, "policy": Dynamic}
    known = {n: {k: x for k, x in v.items() if k != "l2_scope"} for n, v in described.items()}
    return Spec(**{n: parts[n](**v) if n in parts else v for n, v in known.items()})


def canonical(described: Any) -> str:
    """One text for one description: sorted JSON, no white space, floats as Python prints them."""
    return json.dumps(described, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest_text(text: str) -> str:
    """The first 128 bits of SHA-256, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def run_text(
    spec: Spec, data_digest: str, init: Init, mask_digest: str, device: str = "cpu"
) -> str:
    """The canonical text of a training, whose :func:`digest_text` is its key; a device other than
    the CPU is in it. Raises ConfigError where the step is still ``auto``: a key names the step that
    runs."""
    step = spec.training.step
    if step == "auto":
        raise ConfigError("Training.step: found 'auto', expected a name: kernels.resolve(spec).")
    about = {"spec": spec.described(), "init": init.described()}
    about |= {"data": data_digest, "mask": mask_digest}
    about["numerics"] = {k: NUMERICS[k] for k in ("sampling", "model", "selection", step)}
    if device != "cpu":
        about["device"] = device.partition(":")[0]
    return canonical(about)


@settings
class Schedule(Described):
    """How masks are found, round by round: by `rate` and `rounds`, or by `densities` if given."""

    method: Literal["imp", "omp", "rp", "rp_x0"] = "imp"
    """imp: prune the last round's weights; omp: the dense model's, once per density; rp: a random
    mask over a start of its own, as in the paper's code; rp_x0: over X⁰ (§3.4, §4.3)."""
    rate: float = Field(0.1, gt=0, lt=1)
    """pr, share of the kept entries pruned at each round (§4.1)."""
    rounds: int = Field(30, ge=0)
    """I, prunings; round 0 is the dense model (§4.1)."""
    densities: tuple[float, ...] = Field((), strict=False)
    """Densities to visit instead, falling, each in (0, 1)."""
    scope: Literal["join", "user", "item", "user_item"] = "join"
    """One threshold over users and items (join), users or items alone, or one threshold a side."""
    rewind: Literal["rewind", "reinit", "continue", "late"] = "rewind"
    """Where a round starts: X⁰ (rewind), a fresh X⁰ (reinit), the last round's weights (continue),
    or the dense model's after `rewind_epoch` epochs (late; §4.5, Renda 2020)."""
    rewind_epoch: Count = 1
    """Epoch of late rewinding; read by `late` alone."""
    prune_from: Literal["best", "last"] = "best"
    """Weights that are pruned: the best epoch's (the authors' code) or the last's (Algorithm 1)."""
    seed: int = Field(0, ge=0, le=2**62 - 1)
    """Seed of X⁰ and, for random pruning, of the mask."""
    criterion: Criterion = "magnitude"
    """What is pruned first: the smallest entries (Algorithm 1), the smallest of each row, the
    smallest but a row's last one, or the last columns."""

    def __post_init__(self) -> None:
        for before, after in zip((1.0, *self.densities), self.densities, strict=False):
            if not 0.0 < after < before:
                found = f"Schedule.densities: found {self.densities!r}"
                raise ConfigError(f"{found}, expected falling numbers, each > 0 and < 1.")
