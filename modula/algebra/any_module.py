"""`AnyModule`: a module of the algebra, independent of its spaces."""

from __future__ import annotations

import typing
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from modula.algebra.graph_cache import note_edit
from modula.algebra.radii import unit_radius
from modula.algebra.recording import Site, record
from modula.algebra.render import Line, Size, render, render_html
from modula.checks import check_mass, check_sensitivity, listed
from modula.errors import ParameterError
from modula.graph import Graph, GraphBuilder, Radius
from modula.network import Network, Observation, check_parameters
from modula.spaces import ANYTHING, AnySpace, Signature, arrow, meet, space_of
from modula.values import Value


class AnyModule(nn.Module, Network):
    """A module of the algebra, independent of its spaces.

    It has all but the operators, whose types depend on the spaces. Code that takes any network
    should accept `modula.Network`.
    """

    # So that a NumPy scalar on the left leaves the product to __rmul__.
    __array_ufunc__: ClassVar[None] = None
    declared_signature: Signature = (ANYTHING, ANYTHING)
    """The spaces that the class names as type arguments, before a neighbour says more."""

    if TYPE_CHECKING:

        def __init__(self) -> None: ...  # torch's takes any arguments, and refuses them at run time
        def __call__(self, x: Value, /) -> Value: ...

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for base in cls.__dict__.get("__orig_bases__", ()):
            arguments = typing.get_args(base)
            wrong = [one for one in arguments if isinstance(one, type) and space_of(one) is None]
            if wrong and issubclass(typing.get_origin(base), AnyModule):
                raise TypeError(
                    f"{wrong[0].__name__} is no norm type: {cls.__name__} maps between norm types, "
                    "such as RMS, and tuples of them"
                )
            signature = [space_of(one) for one in arguments]
            if len(signature) == 2 and "declared_signature" not in cls.__dict__:
                cls.declared_signature = (signature[0] or ANYTHING, signature[1] or ANYTHING)
        for name, check in (("mass", check_mass), ("sensitivity", check_sensitivity)):
            if isinstance(cls.__dict__.get(name), (int, float)):
                check(cls.__name__, cls.__dict__[name])

    def __setattr__(self, name: str, value: object) -> None:
        if name in ("mass", "sensitivity"):
            self.check_declaration(name, value)
        if isinstance(value, (nn.Module, nn.Parameter)) or name in self._members():
            note_edit()
        super().__setattr__(name, typing.cast("Tensor", value))

    def __delattr__(self, name: str) -> None:
        note_edit()
        super().__delattr__(name)

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        """Add a parameter, as torch does. The graph is refused if no duality map reaches it."""
        note_edit()
        super().register_parameter(name, param)

    def add_module(self, name: str, module: nn.Module | None) -> None:
        """Add a module, as torch does."""
        note_edit()
        super().add_module(name, module)

    def _members(self) -> Collection[str]:
        """The names of the parameters and modules of this module."""
        own = self.__dict__
        return {*own.get("_parameters", ()), *own.get("_modules", ())}

    def check_declaration(self, name: str, value: object) -> None:
        """Raise if this module cannot have that mass or sensitivity."""
        (check_mass if name == "mass" else check_sensitivity)(self, value)

    # The network

    @property
    def torch_module(self) -> nn.Module:
        """The module itself."""
        return self

    def graph(self) -> Graph:
        """Return the graph of operations, in the order in which data meets them.

        A compound keeps its structure until a module or a parameter is assigned or removed
        anywhere. The numbers in it are read from the modules at each use.

        Raises:
            ParameterError: a parameter requires a gradient and is not the weight of an atom, or is
                shared by atoms for which there is no common norm; no path leads from a weight to
                the output.
        """
        graph = self.build_graph()
        if not torch.compiler.is_compiling():
            check_parameters(self, graph)
            self.check_paths(graph)
        return graph

    def check_paths(self, graph: Graph) -> None:
        """Raise if the output does not depend on a weight.

        Raises:
            ParameterError: names the weights that no path leads from to the output.
        """
        lost = [name for name, S in graph.weight_sensitivities().items() if S == 0]
        if lost:
            raise ParameterError(
                f"the output of {self!r} does not depend on {listed(lost)}, and no step would move "
                "it: a Select takes another entry of a tuple, so leave that part of the tuple out"
            )

    def build_graph(self) -> Graph:
        """Return the graph, built anew and without a check of the parameters."""
        builder = GraphBuilder()
        self.flatten(builder, "", 0)
        return builder.finish()

    def flatten(self, builder: GraphBuilder, path: str, source: int) -> int:
        """Add the operations of this module to a graph.

        Args:
            builder: of the graph.
            path: of this module in the network.
            source: the position of the node that it reads.

        Returns:
            The position of the node that gives its output.
        """
        raise NotImplementedError(
            f"{type(self).__name__} is neither an Atom nor a Bond nor a compound: subclass one of "
            "these"
        )

    def observe(self, *inputs: Value) -> list[Observation]:
        """Run the module once, and return the input and output of each module inside.

        Args:
            inputs: one value. A module of several inputs takes a tuple.

        Returns:
            The whole first, then the modules inside, in the order in which data enters them.

        Raises:
            TypeError: there is not exactly one input.
            ValueError: a module was called more often than it occurs in the network.
        """
        if len(inputs) != 1:
            raise TypeError(
                f"{self!r} takes one input, got {len(inputs)}: give a tuple for several values"
            )
        return record(self, list(self.sites("", self.signature)), inputs[0])

    def sites(self, path: str, signature: Signature) -> Iterator[Site]:
        """Yield this module and all modules inside, in the order in which data enters them.

        Args:
            path: of this module in the network.
            signature: its spaces there.
        """
        yield Site(path, self, signature, None)

    def describe(self) -> Mapping[str, str]:
        """Return each module's class and arguments, by path."""
        return {
            path: f"{type(module).__name__}({module.extra_repr()})"
            for path, module in self.named_modules()
        }

    def input_radius(self) -> Radius:
        return unit_radius(self.domain)

    # Types

    def unify(self, domain: AnySpace, codomain: AnySpace) -> Signature:
        """Return the spaces of input and output, given what the neighbours know of them.

        Override it in a bond or an atom whose two spaces depend on one another.

        Args:
            domain: the space that the module before gives, as far as it is known.
            codomain: the space that the module after takes.

        Raises:
            MismatchError: the module does not fit between the two.
        """
        own_domain, own_codomain = self.declared_signature
        return meet(own_domain, domain), meet(own_codomain, codomain)

    @property
    def signature(self) -> Signature:
        """The spaces of input and output, with their widths if those are known."""
        return self.unify(ANYTHING, ANYTHING)

    @property
    def domain(self) -> AnySpace:
        """The space of the input, with its width if that is known."""
        return self.signature[0]

    @property
    def codomain(self) -> AnySpace:
        """The space of the output, with its width if that is known."""
        return self.signature[1]

    def factors(self) -> list[AnyModule]:
        """Return the modules that a composition with this one composes, in the order of data."""
        return [self]

    # Print

    def tree_line(self, path: str, signature: Signature) -> Line:
        """Return the line of this module in the printed tree, and those below it.

        Args:
            path: of this module in the one above.
            signature: its spaces there.
        """
        masses = tuple([weight.mass for weight in self.graph().weights.values()])
        return Line(path, repr(self), arrow(signature), masses, self.sensitivity, None)

    def extra_repr(self) -> str:
        """Return the arguments as written, for errors and the tree."""
        return ""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"

    def __str__(self) -> str:
        return render(self.tree_line("", self.signature), self._size())

    def _repr_html_(self) -> str:
        return render_html(self.tree_line("", self.signature), self._size())

    def _size(self) -> Size:
        numbers = [(p.numel(), p.requires_grad) for p in self.parameters()]
        return Size(sum(n for n, _ in numbers), sum(n for n, trained in numbers if not trained))
