"""What masks keep, cost and serve: counts by hand, planted masks, and overlaps that are known."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from toys import toy_data, toy_spec, trained

from lthnb.config import ConfigError, Model
from lthnb.data import to_csr
from lthnb.experiments import masks
from lthnb.experiments.masks import costs, nonzero_by_layer, overlap, row_sizes
from lthnb.plots.masks import first_entries, heat_maps
from lthnb.pruning import Mask

# Two users and three items; rows keep 3, 1 and 2, 0, 1 of four entries.
PLANTED = np.array(
    [[1, 1, 1, 0], [0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0]], bool
)  # fmt: skip
MF, LIGHTGCN = Model("mf", 4), Model("lightgcn", 4, layers=2)
DATA, SPEC = toy_data(), toy_spec()


def half(share=0.4):
    return np.random.default_rng(0).random((DATA.rows, 4)) < share


def test_fullest_mean_and_empty_rows():
    assert row_sizes(PLANTED[:2]) == {"fullest": 3, "mean": 2, "empty": 0}
    assert row_sizes(PLANTED[2:]) == {"fullest": 2, "mean": 1, "empty": pytest.approx(1 / 3)}


class TestCosts:
    def test_mf_by_hand(self):
        c = costs(PLANTED, 2, MF, pairs=3)
        # Dimensions are kept by 1, 2, 1, 0 users and 1, 1, 1, 0 items.
        assert c["work_needed"] == pytest.approx((1 + 2 + 1) / (2 * 3 * 4))
        assert c["work_paper"] == pytest.approx(2 / 4)
        assert c["memory_paper"] == pytest.approx((2 * 3 + 3 * 2) / 20)
        assert c["memory_kept"] == c["memory_served"] == pytest.approx(7 / 20)

    @pytest.mark.parametrize("model", [MF, LIGHTGCN])
    def test_the_dense_model_is_the_unit(self, model):
        train = sp.csr_matrix(to_csr([0, 0, 1], [0, 1, 2], (2, 3)))
        assert set(costs(np.ones((5, 4), bool), 2, model, train.nnz, train).values()) == {1.0}

    def test_lightgcn_by_hand(self):
        """User 0 with items 0 and 1, user 1 with item 2; only user 0's first entry is kept."""
        train = sp.csr_matrix(to_csr([0, 0, 1], [0, 1, 2], (2, 3)))
        kept = np.zeros((5, 4), bool)
        kept[0, 0] = True
        c = costs(kept, 2, LIGHTGCN, 3, train)
        # It goes to two items, and from them back: 2 + 2 multiply-adds. Served are user 0 and
        # items 0 and 1, one entry each: two pairs share it.
        assert c["work_needed"] == pytest.approx((2 + 2 + 2) / ((2 * 2 * 3 + 6) * 4))
        assert c["memory_served"] == pytest.approx(3 / 20)
        assert c["work_paper"] == 0, "the formula takes the items' fullest row, which is empty"

    def test_without_a_graph_what_needs_it_is_left_out(self):
        c = costs(PLANTED, 2, LIGHTGCN, 3)
        assert np.isnan([c["work_needed"], c["memory_served"]]).all()


def test_an_entry_walks_along_the_graph():
    """Item 0 – user 0 – item 1 – user 1; item 2 has nobody."""
    train = sp.csr_matrix(to_csr([0, 0, 1], [0, 1, 1], (2, 3)))
    kept = np.zeros((5, 2), bool)
    kept[2, 0] = kept[4, 1] = True
    layers = nonzero_by_layer(kept, train, 3)
    rows = [set(np.flatnonzero(layer[:, 0])) for layer in layers]
    assert rows == [{2}, {0}, {2, 3}, {0, 1}, {0, 1, 2, 3}]
    assert [layer[:, 1].sum() for layer in layers] == [1, 0, 0, 0, 1]


def test_a_trained_table_fills_as_its_mask_says(store):
    run = trained(store, DATA, toy_spec("lightgcn"), mask=Mask(half()))
    by_table = nonzero_by_layer(run.weights(), DATA.train, run.spec.model.layers)
    by_mask = nonzero_by_layer(half(), DATA.train, run.spec.model.layers)
    np.testing.assert_array_equal(by_table, by_mask)
    np.testing.assert_array_equal(by_mask[-1], run.outputs().numpy() != 0)


def test_by_row(store):
    run = trained(store, DATA, SPEC, mask=Mask(half()))
    lines = masks.by_row(pd.DataFrame({"key": [run.key, "elsewhere"]}), {run.key: run})
    users, items = (lines[lines["side"] == side] for side in ("users", "items"))
    np.testing.assert_array_equal(np.r_[users["share"], items["share"]], half().mean(1))
    recall = run.record.row["recall@20"]
    assert users["found"].sum() / users["wanted"].sum() == pytest.approx(recall)
    assert items["wanted"].sum() == DATA.test.nnz
    assert items["found"].sum() == run.record.hits().hits.sum()
    assert (items.sort_values(["pairs", "group"])["group"].diff().dropna() >= 0).all()
    assert not len(masks.by_row(lines, {}))


def test_rounds():
    rows = pd.DataFrame({"round": [0, 1], "search": "a", "recall@20": [0.2, 0.3]})
    rows = rows.assign(dataset="d", backbone="mf", seed=0)
    assert list(masks.opened(rows, 1)["difference"]) == [pytest.approx(0.5)]
    with pytest.raises(ConfigError, match=r"round: found 7, expected −1 .* 1 … 1"):
        masks.opened(rows, 7)


def test_among_the_largest():
    table = np.array([[9.0, -8.0], [1.0, -2.0]])
    for kept, share in (([[1, 1], [0, 0]], 1), ([[1, 0], [1, 0]], 0.5), ([[0, 0], [1, 1]], 0)):
        assert masks.among_largest(np.array(kept, bool), table) == share
    assert np.isnan(masks.among_largest(np.zeros((2, 2), bool), table))


def test_entries_taken_out(store):
    dense, ticket = (trained(store, DATA, SPEC, mask=mask) for mask in (None, Mask(half(0.6))))
    recall = masks.without(dense, half())
    assert recall["all"] == dense.record.row["recall@20"] != recall["kept alone"]
    # The pruned entries of a ticket are zero already, so nothing is lost without them.
    recall = masks.without(ticket, half(0.6))
    assert recall["all"] == recall["kept alone"] == recall["pruned removed"]


def test_overlap():
    known = {"chance": 20 / 7, "rows": 7 / ((9 + 1 + 4 + 0 + 1) / 4)}
    assert overlap(PLANTED, PLANTED) == pytest.approx(known)
    assert set(overlap(PLANTED, ~PLANTED).values()) == {0}


def test_sizes_of_rows_alone_look_like_agreement():
    rng = np.random.default_rng(3)
    size = np.where(np.arange(2000) % 2, 28, 2)[:, None] / 32
    found = overlap(*(rng.random((2000, 32)) < size for _ in range(2)))
    assert found["chance"] > 1.5
    assert found["rows"] == pytest.approx(1, abs=0.03)


def test_heat_maps_leave_pruned_entries_blank(store):
    dense, ticket = (trained(store, DATA, SPEC, mask=mask) for mask in (None, Mask(half())))
    figure = heat_maps(first_entries(dense, ticket), "a ticket")
    maps = [ax.collections[0] for ax in figure.axes[:4]]
    np.testing.assert_array_equal(maps[0].get_array(), dense.weights()[:10])
    rows = slice(DATA.users, DATA.users + 10)
    np.testing.assert_array_equal(np.ma.getmaskarray(maps[3].get_array()), ~half()[rows])
    assert all(sum(one.get_clim()) == 0 for one in maps), "zero is the middle"
    plt.close(figure)
