"""What `results/` holds, as the tests of findings ask for it."""

from lthnb import compression, profiles
from lthnb.standings import Field, Standing, recorded_fields
from lthnb.store.runs import Store
from lthnb.tuning import Tuning, tunings
from lthnb.verdicts import LEAST_SEEDS


class Recorded:
    """Recorded ladders with batches of the paper's size, and dense runs beside them."""

    def __init__(self, store: Store):
        self.store = store

    def fields(self, chapter: str, backbone: str) -> list[Field]:
        found = recorded_fields(profiles.recorded_contests(chapter, [backbone]), self.store)
        return [one for one in found if one.has_usual_batches]

    def ways(self, chapter: str, backbone: str) -> dict[tuple[str, str, str], Field]:
        """(source, method, rewind) → validated ladder."""
        return {
            (one.published, one.ladder.method, one.ladder.rewind): one
            for one in self.fields(chapter, backbone)
            if one.spec.training.protocol == "validated"
        }

    def tunings(self, backbone: str, chapter: str = "existence") -> list[Tuning]:
        """The dense models with λ tuned, beside a chapter's ladders."""
        tried = profiles.recorded_tried("l2", [backbone])
        dense = recorded_fields(tried, self.store, dense_alone=True)
        return tunings("l2", self.fields(chapter, backbone), dense)

    def tuned(self, backbone: str) -> dict[str, Tuning]:
        """Source → its dense model with λ tuned, at size 32."""
        return {one.field.published: one for one in self.tunings(backbone)}

    def climbed(self, backbone: str) -> dict[str, Field]:
        """Source → ladder climbed from the tuned dense model, with seeds enough for an interval."""
        found = recorded_fields(profiles.recorded_tuned([backbone]), self.store)
        return {one.published: one for one in found if len(one.seeds) >= LEAST_SEEDS}

    def compressed(self) -> dict[tuple[str, float], compression.Compression]:
        """(source, density) → ticket, LCM and small dense model, with seeds enough."""
        return {
            (one.published, one.density): one
            for one in compression.recorded(profiles.recorded_matches(), self.store)
            if one.complete and len(one.seeds) >= LEAST_SEEDS
        }


def at(field: Field, density: float) -> Standing:
    """The ticket's standing nearest to a density."""
    return min(
        (s for s in field.standings if s is not None and s.number),
        key=lambda s: abs(s.density - density),
    )
