from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from supernet_world import SPACE, TINY, Rectangles, elastic, equal
from torch.utils.data import default_collate

from quatrain import checkpoint
from quatrain.sam.batched_decoder import decode, normalise
from quatrain.sam.build import build
from quatrain.supernet.config import TrainConfig
from quatrain.supernet.cost import full_subnet
from quatrain.supernet.dataset import TrainingItems
from quatrain.supernet.losses import distillation, sam_loss
from quatrain.supernet.trainer import SamTrainer, batches, fit

SHORT = TrainConfig(steps=4, batch=2, prompts=2, warmup=2, lr=1e-3, save_every_s=0)
STEPS = range(1, SHORT.steps + 1)


def trainer(config=SHORT, space=SPACE, seed=0):
    return SamTrainer(elastic(), config, seed, space)


def items(config=SHORT):
    return TrainingItems(
        images=Rectangles(),
        indices=range(6),
        image_px=TINY.image_px,
        logits_px=4 * TINY.grid,
        prompts=config.prompts,
        seed=3,
    )


def batch(size=2, start=0):
    stream = items()
    return default_collate([stream[start + i] for i in range(size)])


def quiet(step, done):
    """A report that nobody reads."""


class KilledError(Exception):
    """Stands for the end of a process."""


def trained(path, config=SHORT, space=SPACE):
    """The last checkpoint of an undisturbed run."""
    torch.manual_seed(1)
    fit(trainer(config, space), items(config), path, quiet)
    return checkpoint.load(path)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("undisturbed") / "state.pt")


def kill_and_resume(path, step, config=SHORT, space=SPACE):
    def dying(done, _):
        if done == step:
            raise KilledError

    torch.manual_seed(1)
    with pytest.raises(KilledError):
        fit(trainer(config, space), items(config), path, dying)
    assert path.exists() == (step > 1 and config.save_every_s == 0)
    torch.manual_seed(1 if not path.exists() else 99)
    fit(trainer(config, space), items(config), path, quiet)
    return checkpoint.load(path)


@pytest.mark.parametrize("step", STEPS)
def test_a_run_killed_at_any_step_ends_as_if_undisturbed(tmp_path, undisturbed, step):
    resumed = kill_and_resume(tmp_path / "state.pt", step)

    assert equal(resumed, undisturbed)


@pytest.mark.parametrize(
    ("config", "space"),
    [
        (replace(SHORT, rule="paper", random_nets=1, distill=0.0), SPACE),
        (replace(SHORT, recompute=True), SPACE),
        (replace(SHORT, amp=True), SPACE),
        (SHORT, None),
        (replace(SHORT, save_every_s=1000), SPACE),
    ],
    ids=["paper", "recompute", "amp", "full net", "never saved"],
)
def test_every_kind_of_training_resumes_as_if_undisturbed(tmp_path, config, space):
    expected = trained(tmp_path / "undisturbed.pt", config, space)

    assert equal(kill_and_resume(tmp_path / "killed.pt", 3, config, space), expected)


def test_a_run_killed_twice_ends_as_if_undisturbed(tmp_path, undisturbed):
    for step in (2, 3):
        with pytest.raises(KilledError):
            fit(trainer(), items(), tmp_path / "state.pt", lambda done, _, step=step: kill(done == step))
    torch.set_rng_state(checkpoint.load(tmp_path / "state.pt")["rng"])
    fit(trainer(), items(), tmp_path / "state.pt", quiet)

    ours = checkpoint.load(tmp_path / "state.pt")
    assert equal([ours["model"], ours["optimizer"]], [undisturbed["model"], undisturbed["optimizer"]])


def kill(now):
    if now:
        raise KilledError


def test_a_finished_run_that_is_started_again_does_nothing(tmp_path, undisturbed):
    checkpoint.save(tmp_path / "state.pt", undisturbed)
    reported = []

    fit(trainer(), items(), tmp_path / "state.pt", lambda step, _: reported.append(step))

    assert not reported
    assert equal(checkpoint.load(tmp_path / "state.pt"), undisturbed)


def test_every_step_is_reported_with_rate_time_and_a_loss_for_each_network(tmp_path):
    reported = {}
    ours = trainer()

    fit(ours, items(), tmp_path / "state.pt", reported.__setitem__)

    assert list(reported) == [1, 2, 3, 4]
    assert [done["lr"] for done in reported.values()] == [SHORT.rate(step) for step in range(4)]
    assert all(list(done["losses"]) == ["largest", "smallest", "random 1", "random 2"] for done in reported.values())
    assert all(done["seconds"] > 0 for done in reported.values())
    assert not ours.model.training


def test_loading_processes_change_nothing(undisturbed, tmp_path):
    config = replace(SHORT, loaders=1)

    assert equal(trained(tmp_path / "state.pt", config), undisturbed)


def test_the_networks_of_a_step_depend_on_seed_and_step_alone():
    ours, again, other = trainer(), trainer(), trainer(seed=1)
    again.update(batch())

    drawn = [ours.networks(step) for step in range(20)]

    assert drawn == [again.networks(step) for step in range(20)]
    assert drawn != [other.networks(step) for step in range(20)]
    assert all(nets["largest"] == full_subnet(TINY) and nets["smallest"] == SPACE.smallest() for nets in drawn)
    assert len({net for nets in drawn for net in nets.values()}) > 10


def test_the_full_network_is_trained_where_the_space_offers_narrower_ones_only():
    narrow = replace(SPACE, choices=tuple(widths[:1] for widths in SPACE.choices))

    assert narrow.largest() != full_subnet(TINY)
    assert trainer(space=narrow).networks(0)["largest"] == full_subnet(TINY)


def test_without_a_space_the_full_network_is_trained_alone():
    ours = trainer(space=None)

    assert ours.networks(0) == {"full": full_subnet(TINY)}
    assert list(ours.update(batch())) == ["full"]


def reference(model, item, nets, config):
    """Losses of the networks of a step, by separate passes; the caller runs backward."""
    image = normalise(model, item["image"], item["valid"])
    losses, teacher = [], None
    for net in nets:
        logits, iou = decode(model, model.image_encoder(image, net), item["points"])
        loss = sam_loss(logits, iou, item["truth"], config.loss)
        if teacher is None:
            teacher = logits.detach()
        else:
            loss = (1 - config.distill) * loss + config.distill * distillation(logits, teacher, config.loss)
        losses.append(loss)
    return losses


@pytest.mark.parametrize("distill", [0.0, 0.3, 1.0])
def test_losses_and_gradients_of_the_canonical_rule_are_those_of_separate_passes(distill):
    config = replace(SHORT, distill=distill, clip=1e9)
    ours, item = trainer(config), batch()
    theirs = copy.deepcopy(ours.model)
    expected = reference(theirs, item, ours.networks(0).values(), config)
    sum(expected).backward()

    losses = ours.update(item)

    assert list(losses.values()) == pytest.approx([float(loss.detach()) for loss in expected], rel=1e-4)
    wanted = dict(theirs.named_parameters())
    for name, parameter in ours.model.named_parameters():
        if parameter.requires_grad:
            scale = wanted[name].grad.abs().max()
            torch.testing.assert_close(parameter.grad, wanted[name].grad, rtol=1e-3, atol=float(1e-4 * scale + 1e-6))


def test_only_the_smaller_networks_are_distilled():
    alone, taught = (trainer(replace(SHORT, distill=distill)).update(batch()) for distill in (0.0, 1.0))

    assert alone["largest"] == pytest.approx(taught["largest"])
    assert all(alone[name] != pytest.approx(taught[name], rel=1e-3) for name in alone if name != "largest")


@pytest.mark.parametrize(("rule", "updates"), [("canonical", 1), ("paper", 3)])
def test_the_paper_rule_makes_one_update_a_network_and_the_canonical_one_in_all(monkeypatch, rule, updates):
    ours, step = trainer(replace(SHORT, rule=rule, random_nets=1)), torch.optim.AdamW.step
    used = []

    def counting(self, *arguments):
        used.append(self)
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", counting)
    ours.update(batch())

    assert len(used) == updates
    assert (ours.optimizer in used) == (rule == "canonical")
    assert len(set(map(id, used))) == updates


def test_the_paper_rule_sees_each_network_after_the_update_of_the_one_before():
    config = replace(SHORT, rule="paper", random_nets=1, distill=0.0, warmup=0)
    ours, item = trainer(config), batch()
    nets = list(ours.networks(0).values())
    before = [float(loss.detach()) for loss in reference(ours.model, item, nets, config)]

    losses = list(ours.update(item).values())

    assert losses[0] == pytest.approx(before[0], rel=1e-5)
    assert losses[1] != pytest.approx(before[1], rel=1e-5)


def test_the_prompt_encoder_stays_and_everything_else_moves():
    ours = trainer()
    before = {name: value.clone() for name, value in ours.model.state_dict().items()}

    ours.update(batch())

    moved = {name for name, value in ours.model.state_dict().items() if not torch.equal(value, before[name])}
    assert not any(name.startswith(("prompt_encoder", "pixel")) for name in moved)
    assert {name for name in before if name.startswith(("image_encoder", "mask_decoder"))} == moved


def test_weight_decay_is_on_matrices_only():
    decayed, others = trainer().optimizer.param_groups

    assert decayed["weight_decay"] == SHORT.weight_decay
    assert all(parameter.ndim > 1 for parameter in decayed["params"])
    assert others["weight_decay"] == 0
    assert all(parameter.ndim <= 1 for parameter in others["params"])


def test_gradients_are_clipped_to_the_norm():
    ours = trainer(replace(SHORT, clip=0.01))

    ours.update(batch())

    norm = torch.cat([p.grad.flatten() for p in ours.model.parameters() if p.grad is not None]).norm()
    assert norm.item() == pytest.approx(0.01, rel=1e-3)


def test_training_lowers_the_loss_of_every_network():
    ours, item = trainer(replace(SHORT, steps=12, warmup=0, schedule="constant", lr=3e-3, random_nets=0)), batch()
    history = [ours.update(item) for _ in range(12)]

    assert all(history[-1][name] < 0.95 * history[0][name] for name in ("largest", "smallest"))


def test_recomputing_activations_changes_no_loss():
    plain, recomputed = (trainer(replace(SHORT, recompute=recompute)).update(batch()) for recompute in (False, True))

    assert plain == pytest.approx(recomputed, rel=1e-6)


def test_a_model_without_an_elastic_encoder_is_refused():
    with pytest.raises(TypeError, match="the encoder is a ImageEncoderViT; train an ElasticEncoder"):
        SamTrainer(build(TINY, 0), SHORT, 0)


def test_processes_share_every_batch_without_overlap():
    config = replace(SHORT, batch=4, steps=3)

    alone = list(batches(items(config), config, start=1))
    shares = [list(batches(items(config), config, start=1, rank=rank, ranks=2)) for rank in (0, 1)]

    assert len(alone) == 2
    for whole, first, second in zip(alone, *shares, strict=True):
        assert all(torch.equal(torch.cat([first[name], second[name]]), whole[name]) for name in whole)


def test_a_batch_that_processes_cannot_share_is_refused():
    config = replace(SHORT, batch=4)

    with pytest.raises(ValueError, match="batch is 4; it must be a multiple of the 3 processes"):
        next(batches(items(config), config, 0, rank=0, ranks=3))
