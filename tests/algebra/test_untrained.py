"""Nothing is silently untrained: a network's weights are the parameters that require gradients, or
it is refused by name.
"""

import copy
import warnings
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize, prune

from modula import (
    RMS,
    Atom,
    Bond,
    Composition,
    Concatenation,
    FunctionBond,
    Linear,
    Module,
    ParameterError,
    ReLU,
    Tanh,
)
from modula.geometry import Spectral
from modula.optim import SteepestDescent
from tests.helpers import rand, random_gradient


def chain() -> Composition:
    return Linear(4, 4) @ ReLU() @ Linear(4, 4)


def trained(model: nn.Module) -> list[str]:
    return [name for name, p in model.named_parameters() if p.requires_grad]


def assert_all_trained(model: Module) -> None:
    """Every parameter that requires a gradient is a weight, and there are no further weights."""
    assert list(model.weights.names) == trained(model)


QUESTIONS = {
    "graph": lambda model: model.graph(),
    "weights": lambda model: model.weights,
    "mass": lambda model: model.mass,
    "sensitivity": lambda model: model.sensitivity,
    "plan": lambda model: model.plan(),
    "tare": lambda model: model.tare(2.0),
    "initialize": lambda model: model.initialize(),
    "project": lambda model: model.project(),
    "gradient": lambda model: model.gradient(model(torch.ones(1, 4)).sum()),
    "optimizer": lambda model: SteepestDescent(model, lr=0.1),
}


# Atoms


class Affine(Atom[RMS, RMS]):
    """An atom with a second thing of its own, which `add` gives it."""

    def __init__(self, add: Callable[["Affine"], None], before: bool = False) -> None:
        if before:
            nn.Module.__init__(self)
            add(self)
        super().__init__((4, 4), Spectral(RMS, RMS), fan_out=4, fan_in=4)
        if not before:
            add(self)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)


def parameter(requires_grad: bool = True) -> nn.Parameter:
    return nn.Parameter(torch.ones(3), requires_grad=requires_grad)


PARAMETERS_OF_AN_ATOM = {
    "assigned": lambda atom, p: setattr(atom, "extra", p),
    "registered": lambda atom, p: atom.register_parameter("extra", p),
}
MODULES_OF_AN_ATOM = {
    "in a ParameterList": lambda atom: setattr(atom, "extra", nn.ParameterList([parameter()])),
    "in a ParameterDict": lambda atom: setattr(atom, "extra", nn.ParameterDict({"a": parameter()})),
    "in a ModuleDict": lambda atom: setattr(atom, "extra", nn.ModuleDict({"a": nn.Linear(2, 2)})),
    "in a module": lambda atom: setattr(atom, "extra", nn.Linear(2, 2)),
    "in a module of modula's": lambda atom: setattr(atom, "extra", Linear(2, 2)),
    "in a module that was added": lambda atom: atom.add_module("extra", nn.Linear(2, 2)),
    "in a module that was registered": lambda atom: atom.register_module("extra", nn.Linear(2, 2)),
}


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("add", PARAMETERS_OF_AN_ATOM.values(), ids=PARAMETERS_OF_AN_ATOM)
def test_a_second_parameter_of_an_atom_is_refused_in_its_init(add, before):
    with pytest.raises(ParameterError, match=r"'extra'.*Bias\(d\) @.*requires_grad_\(False\)"):
        Affine(lambda atom: add(atom, parameter()), before)


@pytest.mark.parametrize("add", PARAMETERS_OF_AN_ATOM.values(), ids=PARAMETERS_OF_AN_ATOM)
@pytest.mark.parametrize("asked_before", [False, True])
def test_a_second_parameter_of_a_finished_atom_is_refused(add, asked_before):
    model = chain()
    if asked_before:
        model.plan()
    x = torch.ones(2, 4)
    y = model(x)
    with pytest.raises(ParameterError, match="'extra'"):
        add(model[0], parameter())
    assert_all_trained(model)
    assert torch.equal(model(x), y)


def test_before_torch_is_ready_torch_says_so():
    class Early(Atom[RMS, RMS]):
        def __init__(self) -> None:
            self.extra = parameter()

    with pytest.raises(AttributeError, match="cannot assign parameters before"):
        Early()


@pytest.mark.parametrize("ask", QUESTIONS.values(), ids=QUESTIONS)
def test_parameters_in_a_module_inside_an_atom_are_refused_whatever_is_asked(ask):
    model = Linear(4, 4) @ Affine(MODULES_OF_AN_ATOM["in a module"])
    with pytest.raises(ParameterError, match=r"extra\.weight"):
        ask(model)


@pytest.mark.parametrize("add", MODULES_OF_AN_ATOM.values(), ids=MODULES_OF_AN_ATOM)
@pytest.mark.parametrize("asked_before", [False, True])
def test_parameters_of_a_module_inside_an_atom_are_refused_by_name(add, asked_before):
    model = Linear(4, 4) @ Affine(lambda atom: None)
    if asked_before:
        model.plan()
    x = torch.ones(2, 4)
    y = model(x)
    add(model[0])
    assert torch.equal(model(x), y)
    with pytest.raises(ParameterError, match=r"'0\.extra\..*write an Atom"):
        model.plan()


@pytest.mark.parametrize("make", [Affine, lambda add: Linear(4, 4) @ Affine(add)])
@pytest.mark.parametrize("add", PARAMETERS_OF_AN_ATOM.values(), ids=PARAMETERS_OF_AN_ATOM)
def test_a_frozen_second_parameter_is_free(make, add):
    assert_all_trained(make(lambda atom: add(atom, parameter(requires_grad=False))))


@pytest.mark.parametrize("make", [Affine, lambda add: Linear(4, 4) @ Affine(add)])
@pytest.mark.parametrize("add", MODULES_OF_AN_ATOM.values(), ids=MODULES_OF_AN_ATOM)
def test_a_frozen_module_inside_an_atom_is_free(make, add):
    def frozen(atom: Atom) -> None:
        add(atom)
        atom.extra.requires_grad_(False)

    assert_all_trained(make(frozen))


@pytest.mark.parametrize("make", [Affine, lambda add: Linear(4, 4) @ Affine(add)])
def test_a_frozen_parameter_that_is_unfrozen_later_is_refused(make):
    model = make(lambda atom: setattr(atom, "extra", parameter(requires_grad=False)))
    model.plan()
    model.requires_grad_(True)
    with pytest.raises(ParameterError, match="extra"):
        model.plan()


def test_a_parameter_added_later_to_a_module_inside_an_atom_is_refused():
    model = Linear(4, 4) @ Affine(lambda atom: setattr(atom, "extra", nn.Identity()))
    model.plan()
    model[0].extra.more = parameter()
    with pytest.raises(ParameterError, match=r"'0\.extra\.more'"):
        model.plan()


def test_a_parameter_added_later_to_a_module_deep_inside_an_atom_is_refused():
    inner = nn.Sequential(nn.Sequential(nn.Identity()))
    model = Linear(4, 4) @ Affine(lambda atom: setattr(atom, "extra", inner))
    model.plan()
    inner[0].append(nn.Linear(2, 2))
    with pytest.raises(ParameterError, match=r"'0\.extra\.0\.1\.weight'"):
        model.plan()


def test_of_many_untrained_parameters_the_first_few_are_named():
    model = Affine(lambda atom: setattr(atom, "extra", nn.ParameterList([parameter()] * 1)))
    model.extra.extend([parameter() for _ in range(6)])
    with pytest.raises(ParameterError, match=r"'extra\.0'.*and 3 more"):
        model.plan()


def test_plain_attributes_and_buffers_of_an_atom_are_free():
    model = Linear(4, 4)
    model.note, model.scale = "fine", torch.ones(3)
    model.register_buffer("count", torch.zeros(1))
    assert_all_trained(model)


# Bonds


class Wrapped(Bond[RMS, RMS]):
    """A bond with a module inside."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


@pytest.mark.parametrize("before", [False, True])
def test_a_parameter_of_a_bond_is_refused(before):
    bond = Wrapped(nn.Identity())
    model = Linear(4, 4) @ bond
    if before:
        model.plan()
    with pytest.raises(ParameterError, match=r"'extra'.*a bond.*make it an Atom"):
        bond.extra = parameter()
    assert_all_trained(model)


def test_a_module_with_parameters_inside_a_bond_is_refused_by_name():
    model = Wrapped(nn.Linear(4, 4)) @ Linear(4, 4)
    with pytest.raises(ParameterError, match=r"'1\.inner\.weight', '1\.inner\.bias'"):
        model.plan()


def test_a_module_inside_a_bond_that_gets_a_parameter_later_is_refused():
    model = Linear(4, 4) @ Wrapped(nn.Sequential(nn.Identity()))
    model.plan()
    model[0].inner.append(nn.Linear(4, 4))
    with pytest.raises(ParameterError, match=r"'0\.inner\.1\.weight'"):
        model.plan()


def test_a_module_that_replaces_the_one_inside_a_bond_is_refused():
    model = Linear(4, 4) @ Wrapped(nn.Identity())
    model.plan()
    model[0].inner = nn.Linear(4, 4)
    with pytest.raises(ParameterError, match=r"'0\.inner\.weight'"):
        model.plan()


def test_frozen_modules_inside_a_bond_are_free():
    model = Linear(4, 4) @ Wrapped(nn.Linear(4, 4).requires_grad_(False))
    assert_all_trained(model)


def test_frozen_modules_inside_a_bond_that_are_unfrozen_later_are_refused():
    model = Linear(4, 4) @ Wrapped(nn.Linear(4, 4).requires_grad_(False))
    model.plan()
    model[0].inner.bias.requires_grad_(True)
    with pytest.raises(ParameterError, match=r"'0\.inner\.bias'"):
        model.plan()


# Functions


def bond(function: Callable[[Tensor], Tensor]) -> FunctionBond:
    return FunctionBond(function, domain=RMS, codomain=RMS)


def closure(layer: nn.Module) -> Callable[[Tensor], Tensor]:
    return lambda x: layer(x)


def closure_of(value: object) -> Callable[[Tensor], Tensor]:
    def run(x: Tensor) -> Tensor:
        return (value, x)[1]

    return run


def default_of(layer: nn.Module) -> Callable[[Tensor], Tensor]:
    def run(x: Tensor, layer: nn.Module = layer) -> Tensor:
        return layer(x)

    return run


def apply(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return f(x)


def in_globals(layer: nn.Module) -> Callable[[Tensor], Tensor]:
    scope: dict[str, object] = {"layer": layer}
    exec("def run(x):\n    return layer(x)", scope)
    return scope["run"]


class Held:
    """An object of one's own with a layer inside."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer

    def apply(self, x: Tensor) -> Tensor:
        return self.layer(x)

    def __call__(self, x: Tensor) -> Tensor:
        return self.layer(x)


FUNCTIONS = {
    "a module": lambda layer: layer,
    "a bound method": lambda layer: layer.forward,
    "a partial function": lambda layer: partial(F.linear, weight=layer.weight),
    "a partial function of one": lambda layer: partial(partial(F.linear, weight=layer.weight)),
    "a partial function of a bound method": lambda layer: partial(layer.forward),
    "a closure": closure,
    "a closure of a closure": lambda layer: closure_of(closure(layer)),
    "a list in a closure": lambda layer: closure_of([layer]),
    "a dict in a closure": lambda layer: closure_of({"layer": layer}),
    "a default": default_of,
    "a method of an object": lambda layer: Held(layer).apply,
    "an object that is called": lambda layer: Held(layer),
    "a function given to a partial one": lambda layer: partial(apply, closure(layer)),
    "a global": in_globals,
}


@pytest.mark.parametrize("make", FUNCTIONS.values(), ids=FUNCTIONS)
def test_a_function_that_uses_parameters_is_refused(make):
    with pytest.raises(ParameterError, match=r"function without weights.*write an Atom"):
        bond(make(nn.Linear(4, 4)))


@pytest.mark.parametrize("make", FUNCTIONS.values(), ids=FUNCTIONS)
def test_a_function_that_uses_frozen_parameters_is_free(make):
    model = Linear(4, 4) @ bond(make(nn.Linear(4, 4).requires_grad_(False)))
    assert_all_trained(model)


def test_a_module_as_a_function_that_is_unfrozen_later_is_refused():
    model = Linear(4, 4) @ bond(nn.Linear(4, 4).requires_grad_(False))
    model.plan()
    model[0].requires_grad_(True)
    with pytest.raises(ParameterError, match=r"'0\.function\.weight'"):
        model.plan()


# Compounds


class Net(Composition[RMS, RMS]):
    """A composition of one's own, to which things are added before and after it is made."""

    def __init__(
        self,
        before: Callable[["Net"], None] = lambda net: None,
        after: Callable[["Net"], None] = lambda net: None,
    ) -> None:
        before(self)
        super().__init__(chain())
        after(self)


MEMBERS_OF_A_COMPOUND = {
    "a parameter": lambda model: setattr(model, "extra", parameter()),
    "a frozen parameter": lambda model: setattr(model, "extra", parameter(False)),
    "a module of modula's": lambda model: setattr(model, "extra", Linear(4, 4)),
    "a bond": lambda model: setattr(model, "extra", ReLU()),
    "a torch module": lambda model: setattr(model, "extra", nn.Dropout()),
    "a ParameterList": lambda model: setattr(model, "extra", nn.ParameterList([parameter()])),
}
REGISTERED_IN_A_COMPOUND = {
    "add_module": lambda model: model.add_module("extra", Linear(4, 4)),
    "register_module": lambda model: model.register_module("extra", Linear(4, 4)),
    "register_parameter": lambda model: model.register_parameter("extra", parameter()),
    "the next index": lambda model: setattr(model, str(len(model)), Linear(4, 4)),
    "add_module under an index": lambda model: model.add_module("0", Linear(4, 4)),
}
ALL_MEMBERS = MEMBERS_OF_A_COMPOUND | REGISTERED_IN_A_COMPOUND


@pytest.mark.parametrize("add", MEMBERS_OF_A_COMPOUND.values(), ids=MEMBERS_OF_A_COMPOUND)
def test_a_member_of_a_compound_is_refused_before_it_is_made(add):
    with pytest.raises(ParameterError, match=r"'extra'.*Net.*Compose it in"):
        Net(before=add)


@pytest.mark.parametrize("add", ALL_MEMBERS.values(), ids=ALL_MEMBERS)
def test_a_member_of_a_compound_is_refused_after_it_is_made(add):
    with pytest.raises(ParameterError, match=r"cannot be an attribute of Net.*Compose it in"):
        Net(after=add)


@pytest.mark.parametrize("add", ALL_MEMBERS.values(), ids=ALL_MEMBERS)
@pytest.mark.parametrize("make", [chain, Net, lambda: Concatenation(Linear(4, 4), Linear(4, 4))])
def test_a_member_of_a_finished_compound_is_refused_and_changes_nothing(make, add):
    model = make()
    x = rand(0, 2, 4, dtype=torch.float32)
    y, parts = model(x), list(model)
    with pytest.raises(ParameterError):
        add(model)
    assert_all_trained(model)
    assert all(map(torch.equal, model(x), y))
    assert all(now is then for now, then in zip(model, parts, strict=True))


def test_a_module_under_an_existing_index_takes_that_place():
    model = chain()
    model.plan()
    setattr(model, "1", Tanh())
    x = rand(0, 2, 4, dtype=torch.float32)
    assert torch.equal(model(x), model[2](torch.tanh(model[0](x))))
    assert_all_trained(model)


def test_an_atom_under_an_existing_index_is_trained():
    model = chain()
    model.plan()
    setattr(model, "1", Linear(4, 4))
    assert_all_trained(model)
    assert len(model.plan().names) == 3


def test_a_torch_module_under_an_existing_index_is_refused():
    with pytest.raises(TypeError, match=r"FunctionBond\(Dropout"):
        setattr(chain(), "1", nn.Dropout())


FREE_ATTRIBUTES = {
    "a number": lambda model: setattr(model, "extra", 3),
    "a tensor": lambda model: setattr(model, "extra", torch.ones(2)),
    "a list of modules": lambda model: setattr(model, "extra", [Linear(4, 4)]),
    "none": lambda model: setattr(model, "extra", None),
}


@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.parametrize("add", FREE_ATTRIBUTES.values(), ids=FREE_ATTRIBUTES)
def test_plain_attributes_of_a_compound_are_free(add, where):
    model = Net(**{where: add})
    assert hasattr(model, "extra")
    assert_all_trained(model)


def test_buffers_of_a_compound_are_free_and_saved():
    model = Net(after=lambda net: net.register_buffer("count", torch.zeros(1)))
    assert "count" in model.state_dict()
    assert_all_trained(model)


# Weights that are computed from others


PARAMETRISATIONS = {
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
    "one's own": lambda layer: parametrize.register_parametrization(layer, "weight", nn.Identity()),
}


@pytest.mark.parametrize("asked_before", [False, True])
@pytest.mark.parametrize("apply", PARAMETRISATIONS.values(), ids=PARAMETRISATIONS)
def test_a_parametrised_weight_is_refused_by_name(apply, asked_before):
    model = chain()
    if asked_before:
        model.plan()
    apply(model[2])
    with pytest.raises(
        ParameterError, match=r"'2\.weight'.*computed from.*remove_parametrizations"
    ):
        model.plan()


@pytest.mark.parametrize("apply", PARAMETRISATIONS.values(), ids=PARAMETRISATIONS)
def test_with_the_parametrisation_removed_the_weight_is_trained(apply):
    model = chain()
    apply(model[2])
    parametrize.remove_parametrizations(model[2], "weight")
    assert_all_trained(model)


OLD_STYLE = [name for name in ("weight_norm", "spectral_norm") if hasattr(torch.nn.utils, name)]


@pytest.mark.parametrize("name", OLD_STYLE)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_an_old_parametrisation_is_refused(name):
    model = chain()
    getattr(torch.nn.utils, name)(model[0])
    with pytest.raises(ParameterError, match=r"'0\.weight"):
        model.weights


@pytest.mark.parametrize("alone", [False, True])
def test_pruning_is_refused_and_changes_nothing(alone):
    layer = Linear(4, 4)
    model = layer if alone else Linear(4, 4) @ ReLU() @ layer
    x = torch.ones(2, 4)
    y = model(x)
    with pytest.raises(ParameterError, match="weight_orig"):
        prune.l1_unstructured(layer, "weight", amount=0.5)
    assert torch.equal(model(x), y)
    assert_all_trained(model)


# Weights of other kinds


def kinds() -> dict[str, Callable[[], Tensor]]:
    return {
        "torch.complex64": lambda: torch.eye(4, dtype=torch.complex64),
        "torch.float8_e4m3fn": lambda: torch.eye(4).to(torch.float8_e4m3fn),
        "torch.int8": lambda: torch.eye(4, dtype=torch.int8),
        "torch.bool": lambda: torch.eye(4, dtype=torch.bool),
        "torch.qint8": lambda: torch.quantize_per_tensor(torch.eye(4), 0.1, 0, torch.qint8),
        "torch.sparse_coo": lambda: torch.eye(4).to_sparse(),
        "torch.sparse_csr": lambda: torch.eye(4).to_sparse_csr(),
    }


def of_kind(name: str) -> nn.Parameter:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        w = kinds()[name]()
    return nn.Parameter(w, requires_grad=w.is_floating_point() or w.is_complex())


@pytest.mark.parametrize("asked_before", [False, True])
@pytest.mark.parametrize("name", kinds())
def test_a_weight_of_another_kind_is_refused_by_name_dtype_and_layout(name, asked_before):
    model = chain()
    if asked_before:
        model.plan()
    model[2].weight = of_kind(name)
    with pytest.raises(
        ParameterError, match=rf"'2\.weight'.*{name}.*dense.*torch\.float32.*convert it"
    ):
        model.plan()


@pytest.mark.parametrize("name", kinds())
def test_a_weight_of_another_kind_is_refused_in_an_atom_alone(name):
    model = Linear(4, 4)
    model.weight = of_kind(name)
    with pytest.raises(ParameterError, match="'weight'"):
        _ = model.weights


@pytest.mark.parametrize("dtype", [torch.complex64, torch.float8_e4m3fn])
def test_a_network_that_is_converted_to_another_kind_is_refused(dtype):
    model = chain()
    model.plan()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.to(dtype)
    with pytest.raises(ParameterError, match=f"'0.weight'.*{dtype}"):
        model.plan()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_weights_of_all_other_floating_point_dtypes_are_trained(dtype):
    model = chain()
    model[2].weight = nn.Parameter(torch.eye(4, dtype=dtype))
    assert_all_trained(model)
    update = model.dualize(random_gradient(model, 0))
    assert update["2.weight"].dtype == dtype


@pytest.mark.parametrize("ask", ["graph", "weights", "plan"])
def test_a_weight_that_is_none_is_refused_by_name(ask):
    model = chain()
    model[2].weight = None
    with pytest.raises(ParameterError, match=r"'2\.weight' is None"):
        QUESTIONS[ask](model)


# All together


MODELS = {
    "a chain": chain,
    "a sum": lambda: chain() + Linear(4, 4),
    "a power": lambda: chain() ** 3,
    "a concatenation": lambda: Concatenation(chain(), Linear(4, 4)),
    "a class of one's own": Net,
    "nested": lambda: Net() @ (Net() + 0.5 * chain()),
    "a copy": lambda: copy.deepcopy(Net()),
}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_weights_are_exactly_the_parameters_that_require_gradients(make):
    assert_all_trained(make())


def test_a_frozen_weight_of_an_atom_is_a_weight_with_a_zero_gradient():
    model = chain()
    model[0].requires_grad_(False)
    gradient = model.gradient(model(torch.ones(2, 4)).square().sum())
    assert list(gradient.names) == ["0.weight", "2.weight"]
    assert not gradient["0.weight"].any()
