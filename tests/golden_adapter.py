"""The one place where the golden test touches the package (at most 50 lines)."""

from lthnb.config import Compressed, Model, Schedule, Seeded, Spec, Training
from lthnb.control import Control
from lthnb.datasets import sources
from lthnb.lottery import rounds_of
from lthnb.store.records import METRIC_NAMES
from lthnb.store.runs import Store
from lthnb.training import train

NOW = {"pruning_rate": "rate", "rungs": "rounds"}  # what is called otherwise than in the cases


def load(name, protocol):
    """MovieLens by its name, or a table by its path; split with seed 0."""
    return sources.load(name, protocol=protocol, progress=False)


def runs(case, data, folder):
    """The trainings of a case, in the order of its rounds, as plain values."""
    model = Model(case["backbone"], case["size"])
    spec = Spec(model, Training(**case["training"], order_seed=case["seed"]))
    control = Control(Store(folder, results=None), progress=False)
    if case["method"] != "lcm":
        search = {NOW.get(name, name): value for name, value in case["search"].items()}
        schedule = Schedule(case["method"], seed=case["seed"], **search)
        return [values(one.run.record) for one in rounds_of(schedule, spec, data, control)]
    teacher = train(spec, data, Seeded(case["seed"]), None, control)
    small = spec.with_model(embedding_size=case["to"], compression="linear")
    start = Compressed(teacher.key, case["seed"])
    return [values(r.record) for r in (teacher, train(small, data, start, None, control))]


def values(record):
    """What must stay the same of a training."""
    row, nested = record.row, record.nested
    history = (nested[f"evaluated_{name}"].tolist() for name in ("epochs", "recall", "ndcg"))
    found = {name: row[name] for name in ("key", "best_epoch", "epochs")}
    found |= {"mask": row["mask_digest"], "losses": nested["losses"].tolist()}
    found["evaluations"] = [list(one) for one in zip(*history, strict=True)]
    for part, prefix in (("test", ""), ("valid", "valid_")):
        both = {name: row[prefix + name] for name in METRIC_NAMES}
        found[part] = {name: value for name, value in both.items() if value is not None}
    return found
