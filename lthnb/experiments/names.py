"""What columns of the tables are called for people, in titles, legends and tables."""

from __future__ import annotations

import pandas as pd

DATA = {  # how data sets are called in titles
    "movielens": "MovieLens",
    "lastfm": "LastFM",
    "tiktok-mmssl": "TikTok (MMSSL subset)",
    "yelp2018": "Yelp2018",
    "gowalla": "Gowalla",
}
MODELS = {"mf": "MF", "lightgcn": "LightGCN"}
METHODS = {
    "dense": "dense model",
    "imp": "IMP",
    "omp": "one-shot (OMP)",
    "random": "random mask",
    "random_x0": "random mask over X⁰",
    "lcm": "LCM",
    "other_start": "another start",
    "other_order": "another order",
}
REWINDS = {
    "rewind": "rewound",
    "late": "rewound to an early epoch",
    "reinit": "re-initialised",
    "continue": "not rewound",
}
PROTOCOLS = {"validated": "chosen on the validation set", "paper": "chosen on test"}
ORDER = [*DATA.values(), *MODELS.values(), *METHODS.values(), *REWINDS.values()]
ORDER += PROTOCOLS.values()


def named(frame: pd.DataFrame) -> pd.DataFrame:
    """With columns of names for people: `data`, `model`, `how` (method), `start` (rewinding),
    `chosen` (by which part epochs are chosen)."""
    return frame.assign(
        data=frame["dataset"].map(DATA).fillna(frame["dataset"]),
        model=frame["backbone"].map(MODELS).fillna(frame["backbone"]),
        how=frame["method"].map(METHODS).fillna(frame["method"]),
        start=frame["rewind"].map(REWINDS).fillna("–"),
        chosen=frame["protocol"].map(PROTOCOLS),
    )
