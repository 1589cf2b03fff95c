"""Figures and tables of what is inside a ticket show what was counted, and what was not run."""

import numpy as np
import pytest
from test_anatomy import fields_in
from test_standings import DATA
from toys import quiet

from lthnb import anatomy, plots
from lthnb.anatomy import opened
from lthnb.store.runs import Store


@pytest.fixture(autouse=True)
def closed():
    yield
    plots.plt.close("all")


@pytest.fixture(scope="module")
def control(tmp_path_factory):
    return quiet(Store(tmp_path_factory.mktemp("store"), results=None))


@pytest.fixture(scope="module")
def fields(control):
    return fields_in(control.store)


@pytest.fixture(scope="module")
def tickets(fields, control):
    return [opened(field, DATA, control, rung=2) for field in fields]


@pytest.fixture
def nothing(tmp_path):
    store = Store(tmp_path, results=None)
    fields = fields_in(store, train_missing=False)
    return fields, [opened(field, DATA, quiet(store), replay=False) for field in fields]


def line(ax, label: str):
    [found] = [artist for artist in ax.get_lines() if artist.get_label().startswith(label)]
    return found.get_ydata()


def texts(figure) -> str:
    return " ".join(text.get_text() for ax in figure.axes for text in ax.texts)


def test_sizes_and_costs(fields):
    sizes = [anatomy.sizes(field, DATA) for field in fields]
    axes = plots.sizes_figure(fields, sizes).axes
    for ax, there in zip(axes, sizes, strict=True):
        assert list(line(ax, "fullest item")) == [s.items.fullest for s in there]
        assert list(line(ax, "mean user")) == [s.users.mean for s in there]
        assert "density" in ax.get_xlabel()
    for field, there in zip(fields, sizes, strict=True):
        work, memory = plots.serving_figure(field, there).axes
        assert list(line(work, "both factors")) == [s.costs.work_needed for s in there]
        assert list(line(memory, "by the paper")) == [s.costs.memory_paper for s in there]
        html = plots.sizes_table(field, there).as_raw_html()
        assert f"{there[2].costs.work_needed:.1%}" in html
        assert field.records(2)[1].key[:8] in html
    [ax] = plots.layers_figure(fields[1], sizes[1]).axes
    assert list(line(ax, "dense")) == list(sizes[1][0].layers)
    assert "not run" in texts(plots.layers_figure(fields[0], sizes[0]))


def test_costs_without_a_graph_leave_their_line_out(fields):
    work, memory = plots.serving_figure(fields[1], anatomy.sizes(fields[1])).axes
    assert len(work.get_lines()) == 1
    assert len(memory.get_lines()) == 2


def test_heat_maps_leave_pruned_entries_blank(tickets):
    for ticket in tickets:
        figure = plots.heat_maps(ticket)
        maps = [ax.images[0] for ax in figure.axes if ax.images and ax.get_title(loc="left")]
        users, sparse_users, items, sparse_items = (m.get_array() for m in maps)
        kept = ticket.masks[0]
        np.testing.assert_array_equal(users, ticket.dense[0].weights()[:10])
        np.testing.assert_array_equal(np.ma.getmaskarray(sparse_users), ~kept[:10])
        rows = slice(DATA.users, DATA.users + 10)
        np.testing.assert_array_equal(np.ma.getmaskarray(sparse_items), ~kept[rows])
        np.testing.assert_array_equal(items, ticket.dense[0].weights()[rows])
        for image in maps:
            low, high = image.get_clim()
            assert low == -high, "zero is the middle"


def test_groups(tickets):
    for ax, side in zip(plots.kept_by_group(tickets).axes, anatomy.SIDES, strict=True):
        np.testing.assert_allclose(line(ax, "MF"), tickets[0].kept_by_group(side).mean(0))
    for side in anatomy.SIDES:
        for ax, ticket in zip(plots.recall_by_group(tickets, side).axes, tickets, strict=True):
            np.testing.assert_allclose(line(ax, "dense"), ticket.recall["dense", side].mean(0))
        html = plots.groups_table(tickets[0], side).as_raw_html()
        assert f"{tickets[0].kept_by_group(side).mean(0)[-1]:.1f}" in html


def test_columns_sizes_magnitudes_and_overlap(fields, tickets):
    [ax, _] = plots.columns_figure(tickets).axes
    users = tickets[0].masks[0][: DATA.users]
    np.testing.assert_allclose(line(ax, "users"), np.sort(users.mean(0)))
    [ax, _] = plots.kept_sizes(tickets).axes
    assert line(ax, "items").sum() == pytest.approx(1)
    [ax, _] = plots.magnitudes_figure(tickets).axes
    assert line(ax, "largest in the dense")[0] == 1
    above, below = plots.overlap_figure(fields).axes
    assert line(above, "MF: two")[0] == anatomy.overlap_between_seeds(fields[0], 1).chance
    assert line(below, "MF and")[1] == anatomy.overlap_between_fields(*fields, 2).rows


def test_tables(tickets):
    html = plots.inside_table(tickets).as_raw_html()
    assert "LightGCN on toy0" in html
    html = plots.removal_table(tickets).as_raw_html()
    assert f"{np.mean([r['kept removed'] for r in tickets[0].removals]):.4f}" in html
    html = plots.trained_layers_table(tickets).as_raw_html()
    assert "layer 3" in html
    html = plots.rows_table(tickets[0], n=3).as_raw_html()
    most = tickets[0].sizes("items").mean(0).max()
    assert html.count(">largest<") == html.count(">smallest<") == 3
    assert f">{most:.1f}<" in html


def test_titles_and_genres_stand_beside_items(tickets):
    from dataclasses import replace

    info = {
        "title": np.array([f"Film {i}" for i in range(DATA.items)]),
        "genres": np.array(["Drama|War"] * DATA.items),
    }
    ticket = replace(tickets[0], data=replace(DATA, item_info=info))
    html = plots.rows_table(ticket).as_raw_html()
    assert "Film" in html
    assert "Drama, War" in html


def test_what_was_not_run_is_said(nothing):
    fields, tickets = nothing
    none = [[None] * 3] * 2
    for figure in (
        plots.sizes_figure(fields, none),
        plots.serving_figure(fields[0], none[0]),
        plots.layers_figure(fields[1], none[1]),
        plots.heat_maps(tickets[0]),
        plots.kept_by_group(tickets),
        plots.recall_by_group(tickets, "items"),
        plots.kept_sizes(tickets),
        plots.columns_figure(tickets),
        plots.magnitudes_figure(tickets),
        plots.overlap_figure(fields),
    ):
        assert "not run" in texts(figure)
    for shown in (
        plots.sizes_table(fields[0], none[0]),
        plots.groups_table(tickets[0], "users"),
        plots.inside_table(tickets),
        plots.removal_table(tickets),
        plots.trained_layers_table(tickets),
        plots.rows_table(tickets[0]),
    ):
        assert "not run" in shown.as_raw_html()


def test_masks_alone(fields):
    tickets = [opened(field, rung=2) for field in fields]
    assert "tables are not at hand" in texts(plots.heat_maps(tickets[0]))
    assert "tables not here" in plots.removal_table(tickets).as_raw_html()
    assert "Spearman, users" not in plots.inside_table(tickets).as_raw_html()
    for figure in (plots.kept_sizes(tickets), plots.magnitudes_figure(tickets)):
        assert "not run" not in texts(figure)
