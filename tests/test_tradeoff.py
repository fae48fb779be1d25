"""Curves of settings."""

from __future__ import annotations

from sixfold.plot.tradeoff import tradeoff


def test_every_setting_and_anchor_is_named_where_it_lies():
    curves = {"warm": {"1": (0.0, 1.0), "2": (1.0, 3.0)}, "cut": {"5": (2.0, 2.0)}}
    made = tradeoff(curves, {"data": (4.0, 5.0)}, colour="black", xlabel="gain", ylabel="loss")
    (axes,) = made.axes
    assert {t.get_text(): t.xy for t in axes.texts} == {"1": (0, 1), "2": (1, 3), "5": (2, 2), "data": (4, 5)}
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["warm", "cut"]
    assert [line.get_xydata().tolist() for line in axes.lines] == [[[0, 1], [1, 3]], [[2, 2]], [[4, 5]]]
    assert len({line.get_linestyle() for line in axes.lines[:2]}) == 2
