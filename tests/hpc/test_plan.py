from __future__ import annotations

import pytest

from quatrain.hpc import site_registry
from quatrain.hpc.placement import place
from quatrain.hpc.plan import Step, longest_s
from quatrain.hpc.site import Request

PLAN = (
    Step(name="train", shape="block", count=1, seconds=600),
    Step(name="measure", shape="gpu", count=33, seconds=10),
    Step(name="nothing", shape="gpu", count=0, seconds=9000),
)


def test_tasks_go_in_rounds_over_the_workers_that_are_there():
    assert PLAN[1].elapsed_s(place(site_registry.find("perlmutter"), Request(nodes=4))) == 30
    assert PLAN[0].elapsed_s(place(site_registry.find("perlmutter"), Request(nodes=4))) == 600


def test_the_longest_task_is_one_that_runs():
    assert longest_s(PLAN) == 600
    assert longest_s(PLAN, "gpu") == 10
    assert longest_s(()) == 0


def test_a_task_that_goes_on_from_its_checkpoint_need_not_fit_into_a_walltime():
    trained = Step(name="train", shape="block", count=1, seconds=120_000, resumable=True)

    assert longest_s((trained,)) == longest_s((trained,), "block") == 0
    assert longest_s((trained, *PLAN), "block") == 600


def test_a_step_refuses_negative_numbers():
    with pytest.raises(ValueError, match="measure"):
        Step(name="measure", shape="gpu", count=-1, seconds=1)
