"""Walltimes: drained in time where tasks keep to their estimate, and survived where they do not."""

from __future__ import annotations

from collections import Counter


def test_no_task_is_begun_that_the_walltime_would_cut_off(drained):
    assert drained.code() == 0, drained.said
    assert drained.states()["retried"] == 0
    assert Counter(place["number"] for place in drained.places("began")) == dict.fromkeys(range(40), 1)
    assert len({place["job"] for place in drained.places("ended")}) >= 2


def test_a_task_that_the_walltime_cuts_off_runs_again_in_the_next_job(overdue):
    assert overdue.code() == 0, overdue.said
    tries = [place["job"] for place in overdue.places("began") if place["number"] == 0]
    assert len(tries) == len(set(tries)) == 2
    assert Counter(place["number"] for place in overdue.places("ended")) == dict.fromkeys(range(6), 1)
    assert any("ManagerLost" in text for text in overdue.messages("retried"))
