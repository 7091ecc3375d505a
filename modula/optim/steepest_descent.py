"""`SteepestDescent`: the optimizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast, overload

import torch
from torch import Tensor, nn

from modula.arithmetic import as_written
from modula.checks import is_number, listed
from modula.errors import StateMismatchError
from modula.network import Network
from modula.optim.adaptive_masses import LAST_UPDATE, LOG_MASS, drift, remember, scale_by_mass
from modula.optim.aliasing import apart
from modula.optim.constraints import Constraint, check_constraint
from modula.optim.decay import Decay, check_decay
from modula.optim.master_weights import (
    MASTER,
    master_of,
    masters,
    needs_master,
    publish,
    restore_precision,
)
from modula.optim.nonfinite import POLICIES, NonFinite, Policy
from modula.optim.rule_of_arguments import (
    BETAS,
    EPS,
    MOMENTUM,
    NESTEROV,
    Base,
    rule_of_arguments,
)
from modula.optim.rules import Buffer, Rule, State, Step
from modula.optim.rules.base import factors_of, merged
from modula.optim.settings import (
    SETTINGS,
    Settings,
    check_adapt_masses,
    check_lr,
    check_settings,
    check_weight_decay,
)
from modula.optim.snapshot import Snapshot
from modula.optim.state_checks import check_state, check_state_dict
from modula.optim.step_group import check_process_group, votes_on
from modula.optim.votes import Votes, all_or_none
from modula.plan import Plan
from modula.polar import MethodLike
from modula.vector import Gradient, Update, Weights, check_kind, dense, is_trainable

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class SteepestDescent(torch.optim.Optimizer):
    """Steepest descent under the modular norm of a network, with momentum.

    Every step moves the weights by an update of norm `lr`:

        m ← momentum·m + g
        w ← w − model.dualize(momentum·m + g, target_norm=lr)
                                         (m in place of momentum·m + g without Nesterov)

    The average m is one of gradients: it lives in the dual space, and the duality map comes after
    it. `rule` takes another way from gradients to the update. Parameters that are frozen
    (`requires_grad=False`) or have no `.grad` are left alone, with their averages; the others keep
    the coefficients that they had.

    Averages are kept in float32 at least, also for weights of 16 bits, which lose a small gradient
    beside a large average: 4 bytes a weight, beside 4 for its master copy.

    Args:
        model: the network itself, whose graph defines the norm; not its parameters. Wrap it
            (DistributedDataParallel, torch.compile) as you like, and shard it (fully_shard) before.
        lr: the norm of a step, a number or a scalar tensor. Let it fall to zero: steps do not
            shrink by themselves.
        momentum: the share of the average that a step keeps, in [0, 1).
        nesterov: look ahead by one step of the average.
        weight_decay: λ ≥ 0. Each step also takes lr·λ·cᵢ·wᵢ off weight i, where cᵢ is its
            coefficient: decay is divided among the weights as the step is. Then ‖wᵢ‖ ≤ 1/λ in the
            weight's own norm, once it holds, holds for good (while lr·λ·cᵢ ≤ 1).
        normalize: take the direction that `base` finds as it is, and rescale each weight's part to
            its share of `lr`, in place of dualizing.
        base: "sgd" for the average of gradients, "adam" for Adam's direction, which goes with
            `normalize=True` only.
        nonfinite: how a NaN or an infinity in a gradient is treated: "propagate" does not look,
            "skip" leaves everything as it was and counts the step in `skipped`, "raise" names the
            parameters before anything is changed. Only "raise" waits for the device.
        betas, eps: of base="adam", in place of momentum and nesterov.
        adapt_masses: how fast masses drift, 0 for not at all. Each step multiplies the mass of
            weight i by exp(adapt_masses · cos(gᵢ, uᵢ)), with its gradient and its last update, and
            rescales all of them to their total. Try 0.3, for the first few hundred steps of a new
            network. Takes one more tensor a weight, the last update.
        method: how matrices are orthogonalised, one of `modula.polar`'s; None is its default.
        rule: another rule, such as `Normalized(Adam())` or one of your own (`modula.optim.Rule`),
            in place of momentum, nesterov, normalize, base, betas, eps and method.
        process_group: the processes that take each step together or not at all, in place of those
            that have shards of the weights. Give it for replicas with plain weights, such as
            `ddp.process_group`.
        decay: which entries `weight_decay` takes its share of, such as `CautiousDecay()`; None
            takes it of all, as `Decay()` does.
        constraint: where the weights stay, such as `Sphere(1.0)`; None lets them go anywhere. The
            weights are brought there after each step.

    Raises:
        TypeError: the model is not modula's, or an argument is of the wrong kind.
        ValueError: an argument is out of range, or two contradict each other.

    Example:
        >>> import torch
        >>> from modula import Linear, ReLU, SteepestDescent
        >>> model = Linear(2, 8) @ ReLU() @ Linear(8, 4)
        >>> optimizer = SteepestDescent(model, lr=0.1)
        >>> schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=100)
        >>> x = torch.randn(32, 4)
        >>> for step in range(100):
        ...     optimizer.zero_grad()
        ...     loss = (model(x) - x[:, :2]).square().mean()
        ...     loss.backward()
        ...     optimizer.step()
        ...     schedule.step()
        >>> bool(loss < 0.05)
        True

    Source: Bernstein & Newhouse 2025 (arXiv:2410.21265), section 3; with normalize=True, Large et
    al. 2024 (arXiv:2405.14813).
    """

    def __init__(
        self,
        model: Network,
        lr: float | Tensor,
        momentum: float = MOMENTUM,
        nesterov: bool = NESTEROV,
        weight_decay: float = 0.0,
        normalize: bool = False,
        base: Base = "sgd",
        nonfinite: NonFinite = "propagate",
        *,
        betas: tuple[float, float] = BETAS,
        eps: float = EPS,
        adapt_masses: float = 0.0,
        method: MethodLike | None = None,
        rule: Rule | None = None,
        process_group: ProcessGroup | None = None,
        decay: Decay | None = None,
        constraint: Constraint | None = None,
    ) -> None:
        _check_model(model)
        check_lr(lr)
        check_weight_decay(weight_decay)
        check_adapt_masses(adapt_masses)
        check_process_group(process_group)
        if not isinstance(nonfinite, str) or nonfinite not in POLICIES:
            raise ValueError(
                f"nonfinite is one of {', '.join(map(repr, POLICIES))}; got {nonfinite!r}"
            )
        self.model: Network = model
        self.rule: Rule = rule_of_arguments(
            rule,
            normalize=normalize,
            base=base,
            method=method,
            momentum=momentum,
            nesterov=nesterov,
            betas=betas,
            eps=eps,
        )
        self.decay: Decay = check_decay(decay)
        self.constraint: Constraint | None = check_constraint(constraint)
        self._judge: Policy = POLICIES[nonfinite]
        self._adapts: bool = adapt_masses > 0
        self._before: Snapshot | None = None
        self._process_group: ProcessGroup | None = process_group
        self._votes: Votes | None = None
        self._factors: dict[Tensor, Mapping[str, Buffer]] = factors_of(self.rule, model.plan())
        defaults = {
            "lr": lr,
            **self.rule.defaults(),
            "weight_decay": weight_decay,
            "adapt_masses": adapt_masses,
            "skipped": _zero(model.weights),
        }
        super().__init__(list(model.weights.items()), defaults)
        with torch.inference_mode(False):  # a tensor that is made in it can never be written
            self._begin([p for p in self._settings["params"] if p.requires_grad])

    @property
    def skipped(self) -> Tensor:
        """The number of steps that `nonfinite="skip"` left out, as a scalar tensor on the device.

        To print it waits for the device.
        """
        return self._settings["skipped"]

    def masses(self) -> dict[str, float]:
        """Return the masses of the network's weights as they are now, by the paths of their atoms.

        Waits for the device. They are those that the network declares until `adapt_masses` lets
        them drift. `model.tare(optimizer.masses())` makes them the network's own, for an optimizer
        that is made afterwards.
        """
        graph = self.model.graph()
        paths = {name: graph.nodes[i].path for i, name in reversed(list(graph.uses()))}
        found = {}
        for name, weight in graph.weights.items():
            log = self.state.get(weight.tensor, {}).get(LOG_MASS) if self._adapts else None
            found[paths[name]] = weight.mass * (1.0 if log is None else log.exp().item())
        return found

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Move the weights against what their `.grad` says.

        A step is taken whole or not at all. If it raises, in a geometry, a rule or a hook, or is
        interrupted, then weights, averages, masters, masses and counts are as they were, and the
        same step can be taken again. For its time a copy of them is in memory.

        Where several processes have shards of the weights, all take the step or none: if it fails
        on one, it raises on all. They tell each other before they exchange tensors, and at the end.

        Args:
            closure: evaluates the model anew, calls backward and returns the loss.

        Returns:
            What the closure returned.

        Raises:
            RuntimeError: the model's parameters have been replaced, or a parameter group added,
                since the optimizer was made.
            TypeError: a `.grad` is not a dense or sparse (COO) tensor of floating-point numbers, or
                a setting in the parameter group is of the wrong kind.
            ValueError: a setting in the parameter group, as a schedule may have written it, is out
                of range, or missing.
            StateMismatchError: an entry of `state` was removed, or replaced by one of another kind.
            FloatingPointError: with nonfinite="raise", a gradient is not finite.
            StepError: the step failed on another process, or processes have gradients of different
                weights.
        """
        given = () if closure is None else (closure,)
        if torch.compiler.is_compiling():
            return self._step_with_hooks(*given)
        outer = self._before, self._votes  # of a step whose closure or hook takes this one
        before, votes = Snapshot(), votes_on(self._settings["params"], self._process_group)
        self._before, self._votes = before, votes
        try:
            if votes is None:
                return self._step_with_hooks(*given)
            with all_or_none(votes, before.forget):
                return self._step_with_hooks(*given)
        except BaseException:
            before.restore()
            raise
        finally:
            self._before, self._votes = outer

    # torch would run the hooks of a step outside of `step`, where an error cannot undo it.
    step.hooked = True  # type: ignore[attr-defined]

    @torch.optim.Optimizer.profile_hook_step
    @torch.no_grad()
    def _step_with_hooks(self, closure: Callable[[], float] | None = None) -> float | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        plan = self._plan()
        moved = [i for i, p in enumerate(plan.weights) if p.requires_grad and p.grad is not None]
        if self._votes is not None:
            left = [name for i, name in enumerate(plan.names) if i not in set(moved)]
            self._votes.agree(f"has no gradient of {listed(left, len(left))}")
        if moved:
            self._move(plan.only(moved))
        return loss

    @as_written
    def _move(self, plan: Plan) -> None:
        """One step of the weights of `plan`, all of which have a gradient."""
        settings = self._settings
        names = tuple(plan.names)
        check_settings(settings, (*SETTINGS, *self.rule.defaults()), adapts=self._adapts)
        self.rule.check_settings(cast("dict[str, object]", settings))
        grads = [dense(p.grad) for p in plan.weights if p.grad is not None]
        for name, g in zip(names, grads, strict=True):
            if not is_trainable(g):
                check_kind("SteepestDescent", f"{name}.grad", g)
        self._check_states(plan.weights)
        gradient = Gradient.from_tensors(names, apart(grads, self._all_kept(plan.weights)))
        verdict = self._judge(gradient)
        if self._before is not None:
            self._before.keep_states(self.state, plan.weights)
            self._before.keep([settings["skipped"]])
        self._begin(plan.weights)
        states: list[State] = [self.state[p] for p in plan.weights]

        # The count comes first, since rules read it; the masses drift before they scale.
        verdict.count([state["step"] for state in states], settings["skipped"])
        step = Step(
            plan, verdict.clean(gradient), states, cast("dict[str, object]", settings), verdict
        )
        update = self.rule(step)
        others = [*plan.weights, *gradient.tensors, *self._all_kept(plan.weights)]
        update = Update.from_tensors(names, apart(update.tensors, others))
        if self._adapts:
            drift(plan, step.gradient, states, settings["adapt_masses"])
            scale_by_mass(update, states)
            remember(update, states, verdict)
        if self._before is not None:
            self._before.keep(plan.weights)  # no earlier, for the sake of memory
        weights = Weights.from_tensors(names, masters(plan.weights, states))
        if settings["weight_decay"]:
            decay = self.decay(weights, update, step)
            if self._adapts:
                scale_by_mass(decay, states)
            weights -= decay
        weights -= update
        if self.constraint is not None:
            self.constraint(weights, step)
        publish(plan.weights, weights.tensors)

    @property
    def _settings(self) -> Settings:
        return cast("Settings", self.param_groups[0])

    def _plan(self) -> Plan:
        """The model's plan now, whose parameters must still be the optimizer's."""
        if len(self.param_groups) != 1:
            raise RuntimeError(
                f"SteepestDescent has one parameter group, and now has {len(self.param_groups)}: "
                "the norm of a step is one over the whole model; compose further weights into the "
                "model and make a new optimizer"
            )
        plan = self.model.plan()
        params = self._settings["params"]
        if len(params) != len(plan.weights) or any(
            ours is not theirs for ours, theirs in zip(params, plan.weights, strict=True)
        ):
            raise RuntimeError(
                f"{self.model!r} no longer has the parameters that this SteepestDescent was made "
                "for: make the optimizer after the model has its final parameters, that is after "
                "fully_shard, parallelize_module and to_empty"
            )
        return plan

    def _begin(self, params: Sequence[Tensor]) -> None:
        """Averages of zero and master copies, for the parameters that have none yet."""
        for p in params:
            state = self.state[p]
            if not state:
                state["step"] = torch.zeros((), device=p.device)
                state.update(
                    {
                        name: torch.zeros_like(p, dtype=dtype)
                        for name, dtype in self._buffers_of(p).items()
                    }
                )
                state.update(
                    {
                        name: torch.zeros(one.shape, dtype=one.dtype, device=p.device)
                        for name, one in self._factors[p].items()
                    }
                )
                if self._adapts:
                    state[LOG_MASS] = torch.zeros((), device=p.device)
            if needs_master(p) and MASTER not in state:
                state[MASTER] = master_of(p)

    def _check_states(self, params: Sequence[Tensor]) -> None:
        """Raise a StateMismatchError if what is kept for them was changed from outside."""
        numbers = ("step", LOG_MASS) if self._adapts else ("step",)
        for p in params:
            if self.state.get(p):
                check_state(self.state[p], p, self._kept_for(p), numbers)

    def _all_kept(self, params: Sequence[Tensor]) -> list[Tensor]:
        """All that is kept for these parameters."""
        return [t for p in params for t in self.state.get(p, {}).values()]

    def _buffers_of(self, p: Tensor) -> dict[str, torch.dtype]:
        """The buffers of a parameter that are shaped like it, by name, and their dtypes."""
        kept = dict(self.rule.buffers(p))
        return {**kept, LAST_UPDATE: p.dtype} if self._adapts else kept

    def _kept_for(self, p: Tensor) -> dict[str, Buffer]:
        """All buffers of a parameter, by name."""
        like = {name: Buffer(tuple(p.shape), d) for name, d in self._buffers_of(p).items()}
        return merged(like, self._factors[p], type(self.rule).__name__)

    # State

    def add_param_group(self, param_group: Mapping[str, object]) -> None:
        """Raise, since the norm is one over the whole network.

        Raises:
            ValueError: always.
        """
        if self.param_groups:
            raise ValueError(
                "SteepestDescent has one parameter group: the norm of a step is one over the whole "
                "model, and masses divide it. To train a module more or less than others set its "
                "mass, as in model[0].tare(2.0); to train further weights compose them into the "
                "model and make a new optimizer; to leave weights out freeze them with "
                "requires_grad_(False)"
            )
        super().add_param_group(dict(param_group))

    def state_dict(self) -> dict[str, Any]:
        """Return averages, counts and settings, the numbers of which are Python's."""
        state = super().state_dict()
        for group in state["param_groups"]:
            for name, value in group.items():
                if is_number(value) and not isinstance(value, int):
                    group[name] = float(value)
        return state

    def load_state_dict(self, state_dict: Mapping[str, object]) -> None:
        """Take over averages, counts and settings from `optimizer.state_dict()`.

        They go to this optimizer's dtypes and devices.

        Raises:
            StateMismatchError: it is of another model or another kind of optimizer. Nothing is
                changed.
        """
        if not isinstance(state_dict, Mapping):
            raise StateMismatchError(
                "an optimizer's state is a dict, the result of optimizer.state_dict(), got "
                f"{type(state_dict).__name__}"
            )
        taken: dict[str, Any] = {}

        def check(_: torch.optim.Optimizer, given: dict[str, Any]) -> None:
            params = self._settings["params"]
            check_state_dict(
                given,
                self._settings["param_names"],
                params,
                [self._kept_for(p) for p in params],
                lambda group: self.rule.check_settings({**self.defaults, **group}),
            )
            taken.update(given)

        # the last of its kind: it sees what the others made
        checking = self.register_load_state_dict_pre_hook(check)
        try:
            super().load_state_dict(dict(state_dict))
        finally:
            checking.remove()
        settings = self.param_groups[0]
        for name, default in self.defaults.items():
            settings.setdefault(name, default)
        own = self.defaults["skipped"]
        settings["skipped"] = torch.as_tensor(settings["skipped"], device=own.device).to(own)
        for index, p in zip(taken["param_groups"][0]["params"], settings["params"], strict=True):
            restore_precision(
                self.state.get(p, {}),
                taken["state"].get(index, {}),
                p,
                ("step", LOG_MASS),
                {name: one.dtype for name, one in self._kept_for(p).items()},
            )

    def __getstate__(self) -> dict[str, object]:
        return super().__getstate__() | {
            "model": self.model,
            "rule": self.rule,
            "decay": self.decay,
            "constraint": self.constraint,
            "_judge": self._judge,
            "_adapts": self._adapts,
            "_before": None,
            "_process_group": self._process_group,
            "_votes": None,
            "_factors": self._factors,
        }


def _check_model(model: object) -> None:
    if isinstance(model, Network):
        return
    if isinstance(model, nn.Module):
        raise TypeError(
            f"SteepestDescent takes a model of modula's, got {type(model).__name__}: if it wraps "
            "one, pass that one (as ddp.module); a plain torch module does not say how its weights "
            "are measured"
        )
    raise TypeError(
        f"SteepestDescent takes the model itself, got {type(model).__name__}: write "
        "SteepestDescent(model, lr=…), since the norm follows from the model's composition and not "
        "from a list of parameters"
    )


@torch.inference_mode(False)
def _zero(weights: Weights) -> Tensor:
    """A count of 0, on the device of the first weight."""
    device = weights.tensors[0].device if len(weights) else torch.device("cpu")
    return torch.zeros((), dtype=torch.int64, device=device)
