"""The one place where the golden test touches the package (at most 40 lines)."""

from lthnb.config import Compressed, Model, Schedule, Seeded, Spec, Training
from lthnb.control import Control
from lthnb.datasets import sources
from lthnb.lottery import rounds_of
from lthnb.pruning import Mask
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
        return [values(one.record) for one in rounds_of(schedule, spec, data, control)]
    whole = Mask.dense(data.rows, case["size"])
    teacher = train(spec, data, Seeded(case["seed"]), whole, control)
    small = spec.with_model(embedding_size=case["to"], compression="linear")
    mask, start = Mask.dense(data.rows, case["to"]), Compressed(teacher.key, case["seed"])
    return [values(r.record) for r in (teacher, train(small, data, start, mask, control))]


def values(record):
    """What must stay the same of a training."""
    names = ("best_epoch", "epochs", "losses", "evaluations", "test", "valid")
    return {"key": record.key, "mask": record.row["mask_digest"]} | {
        name: record.results[name] for name in names
    }
