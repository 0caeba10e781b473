"""One training run from a Run to its last checkpoint; run again, it continues where it stopped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import optax

from melama_jax.checkpoints.card import ModelCard
from melama_jax.checkpoints.open import open_weights
from melama_jax.checkpoints.run_lock import RunLock
from melama_jax.checkpoints.store import RunStore
from melama_jax.checkpoints.weights import to_device
from melama_jax.errors import InputError
from melama_jax.loading.device import global_batches, place
from melama_jax.loading.loader import Loader, heldout_batches
from melama_jax.models import lora
from melama_jax.models.params import Params, flatten, unflatten
from melama_jax.partitioning.rules import RULES, batch_sharding
from melama_jax.records.manifest import Manifest
from melama_jax.text.tokenizer import Tokenizer, load_tokenizer
from melama_jax.training.card import card_for, changes_of_schedule
from melama_jax.training.config import Run
from melama_jax.training.heldout import make_loss_sum, mean_loss
from melama_jax.training.hooks import HeldOut, LogMetrics, ReportWaiting, SaveCheckpoints
from melama_jax.training.hosts import Hosts
from melama_jax.training.loop import Hook, run_loop
from melama_jax.training.metrics import MetricsLog, Silent
from melama_jax.training.optimizer import make_optimizer, schedule
from melama_jax.training.resume import look, restore_newest
from melama_jax.training.run_folder import WatchSaves, held, require_run_folder
from melama_jax.training.setup import Setup, abstract_state, initial_state, set_up, state_shardings
from melama_jax.training.signals import StopOnSignal, StopTogether
from melama_jax.training.state import TrainState
from melama_jax.training.step import make_train_step


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Args:
        step: optimizer steps done in all.
        started_from: the step it began or resumed at.
        stopped_by: the signal that stopped it early, or None.
    """

    step: int
    started_from: int
    stopped_by: str | None


def train(
    run: Run, gin: str = "", show: Callable[[str], None] | None = print, hosts: Hosts | None = None
) -> Outcome:
    """Trains until run.train_steps, or until SIGTERM: then saves, and a later call goes on from there.

    Args:
        run: everything the run is told.
        gin: the gin text behind `run`, kept in every checkpoint.
        show: takes progress lines; None for silence.
        hosts: this process among the hosts of the run (training/distributed.py); None where it is alone.

    Raises:
        InputError: run, data, model and devices do not go together.
    """
    folder = require_run_folder(run.model_dir)
    with held(folder) as lock:
        return _train(run, gin, show, hosts, folder, lock)


def _train(
    run: Run, gin: str, show: Callable[[str], None] | None, hosts: Hosts | None, folder: Path, lock: RunLock
) -> Outcome:
    loader = Loader(run.data_dir, run.batch_size, run.seed, rates=run.rates)
    tokenizer = load_tokenizer(Path(run.data_dir) / "tokenizer")
    optimizer = make_optimizer(run.optimizer, run.train_steps)
    found = look(folder)
    if found.steps and found.steps[0] > run.train_steps:
        raise InputError(
            "TRAIN_STEPS", str(run.train_steps), f"at least the {found.steps[0]} steps {folder} has done"
        )
    card = card_for(run, loader.manifest, tokenizer, gin, found.card)
    setup = set_up(run, card.model)
    state = None
    if found.steps:
        state = restore_newest(folder, found, abstract_state(setup, run, optimizer))
    with (
        RunStore(run.model_dir, run.keep_last, run.keep_every) as store,
        setup.mesh,
        nn.logical_axis_rules(RULES),
    ):
        if state is None:
            state = _fresh_state(run, setup, optimizer, store)
        start = int(state.step)
        if show is not None:
            show(_opening(run, setup, start, bool(found.steps)))
            changed = found.card and changes_of_schedule(card, found.card)
            if changed:
                show(changed)
        with StopOnSignal() if jax.process_count() == 1 else StopTogether() as stop:
            state = _loop(
                run, setup, optimizer, loader, tokenizer, store, card, state, stop, show, hosts, lock
            )
            store.wait()  # a second signal must not end the process in the middle of the last save
    return Outcome(int(state.step), start, stop.received if int(state.step) < run.train_steps else None)


def _loop(
    run: Run,
    setup: Setup,
    optimizer: optax.GradientTransformation,
    loader: Loader,
    tokenizer: Tokenizer,
    store: RunStore,
    card: ModelCard,
    state: TrainState,
    stop: StopOnSignal,
    show: Callable[[str], None] | None,
    hosts: Hosts | None,
    lock: RunLock,
) -> TrainState:
    bos_id = bos_for(loader, tokenizer)
    step = jit_train_step(run, setup, optimizer, bos_id)
    loss_sum = make_loss_sum(setup.model, bos_id, setup.mesh)
    placed = batch_sharding(setup.mesh)

    def measure(state: TrainState) -> dict[str, float]:
        losses = {}
        for domain in heldout_domains(loader.manifest):
            batches = heldout_batches(run.data_dir, domain, run.batch_size)
            losses[domain] = mean_loss(loss_sum, state.params, (place(batch, placed) for batch in batches))
        return losses

    def save(step: int, state: TrainState) -> None:
        lock.require_held()  # where the folder's disk is gone, its empty place must not be written to
        train_state = {"step": state.step, "data_step": state.data_step, "opt_state": state.opt_state}
        store.save(step, state.trained, train_state, card)

    log = MetricsLog(Path(run.model_dir), int(state.step)) if jax.process_index() == 0 else Silent()
    tokens = run.batch_size * run.seq_len
    rate = schedule(run.optimizer, run.train_steps)
    hooks: list[Hook] = [
        *([ReportWaiting(hosts, run.log_every)] if hosts else []),
        LogMetrics(log, rate, tokens, run.train_steps, run.log_every, show),
        HeldOut(log, measure, run.heldout_every, show),
        SaveCheckpoints(save, run.save_every),
        WatchSaves(store.check),
    ]
    batches = global_batches(loader, placed, int(state.data_step))
    if hosts:
        batches = hosts.taking(batches)
    try:
        return run_loop(state, step, batches, run.train_steps, hooks, stop)
    finally:
        log.close()


def jit_train_step(
    run: Run, setup: Setup, optimizer: optax.GradientTransformation, bos_id: int | None
) -> Any:
    """The compiled step of a run: what the loop calls and what `melama plan` compiles."""
    shardings = state_shardings(setup, run, optimizer)
    on_tpu = (
        setup.mesh.devices.flat[0].platform == "tpu"
    )  # other platforms' compilers know none of the options
    return jax.jit(
        make_train_step(setup.model, optimizer, bos_id, run.micro_batches, run.seed, setup.mesh),
        in_shardings=(shardings, batch_sharding(setup.mesh)),
        out_shardings=(shardings, None),
        donate_argnums=0,
        compiler_options=dict(run.compiler_options) if on_tpu else None,
    )


def heldout_domains(manifest: Manifest) -> tuple[str, ...]:
    """The domains that have held-out records."""
    held = {source.domain for source in manifest.sources if source.heldout.records}
    return tuple(domain for domain in manifest.domains() if domain in held)


def bos_for(loader: Loader, tokenizer: Tokenizer) -> int | None:
    """What segments start with: BOS, or nothing under the paper's packing."""
    return None if loader.manifest.packing == "paper" else tokenizer.bos_id


def _fresh_state(
    run: Run, setup: Setup, optimizer: optax.GradientTransformation, store: RunStore
) -> TrainState:
    base = None
    if run.init_from is not None:
        base = _base(run, setup)
    state = initial_state(setup, run, optimizer, base)
    if state.frozen:
        store.save_frozen(state.frozen)
    return state


def _base(run: Run, setup: Setup) -> Params:
    """The weights of init_from, each cast and placed as the run holds it."""
    assert run.init_from is not None
    _, weights = open_weights(run.init_from)
    shapes = flatten(setup.shapes)
    return unflatten({path: to_device(weights, path, shapes[path]) for path in weights.leaves})


def _opening(run: Run, setup: Setup, start: int, resumed: bool) -> str:
    shape = "x".join(f"{axis}={size}" for axis, size in setup.mesh.shape.items() if size > 1) or "one device"
    trained = sum(
        leaf.size for path, leaf in flatten(setup.shapes).items() if not run.lora or lora.is_lora_path(path)
    )
    state = f"continuing at step {start}" if resumed else "starting"
    steps = f"{run.train_steps} steps of {run.batch_size} x {run.seq_len}"
    return f"{state}: {trained:,} weights to train, {steps} on {shape}"
