"""`Compound`: a module made of modules, its components."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NoReturn, cast

import torch
from torch import nn

from modula.algebra.any_module import AnyModule
from modula.algebra.graph_cache import CachedGraph, note_edit
from modula.algebra.hints import refuse_operand
from modula.algebra.primitive import Primitive
from modula.algebra.recording import Site
from modula.algebra.render import Line
from modula.errors import CompositionError, MismatchError, ParameterError
from modula.graph import Graph
from modula.network import check_parameters
from modula.spaces import ANYTHING, AnySpace, Signature, arrow, meet


class Compound(AnyModule):
    """A module made of modules, from which its mass, sensitivity and norm follow.

    Iterate over it, or index it, to reach these modules in the order in which data meets them.
    `compound[i] = module` replaces one by another between the same spaces. A compound takes neither
    parameters nor further modules as attributes, since they would not be part of its map; other
    attributes are free.

    To name a network of your own, subclass `Composition` or `Concatenation`.
    """

    _signature: Signature
    _cached_graph: CachedGraph | None = None

    @classmethod
    def of(cls, components: Sequence[AnyModule], signature: Signature) -> AnyModule:
        """Return a compound of components whose common signature is known.

        Args:
            components: in the order of data.
            signature: the spaces of the whole.
        """
        made = cls.__new__(cls)
        nn.Module.__init__(made)
        made.set_components(components, signature)
        return made

    @classmethod
    def extended(
        cls, first: Compound, more: Sequence[AnyModule], signature: Signature
    ) -> AnyModule:
        """Return a compound of the components of another and of `more`.

        It is `of` for a compound that grows one by one, since a dict is copied in a fraction of the
        time that it takes to be filled.

        Args:
            first: the compound whose components come first.
            more: those that follow.
            signature: the spaces of the whole.
        """
        made = cls.of([], signature)
        made._modules.update(first._modules)
        made._modules.update({str(len(first) + i): module for i, module in enumerate(more)})
        return made

    def set_components(self, components: Sequence[AnyModule], signature: Signature) -> None:
        """Make this the compound of these components, in the order of data."""
        self._signature = signature
        note_edit()
        self._modules.update(zip(_names(len(components)), components, strict=False))

    def components(self) -> list[AnyModule]:
        """Return the modules directly inside, in the order of data."""
        return cast("list[AnyModule]", list(self._modules.values()))

    def infer_signatures(
        self, components: Sequence[AnyModule], domain: AnySpace, codomain: AnySpace
    ) -> list[Signature]:
        """Return the spaces of each component, given those of the whole.

        Raises:
            MismatchError: the components do not fit.
        """
        raise NotImplementedError(
            f"{type(self).__name__} does not say how its components meet: subclass Composition or "
            "Concatenation"
        )

    def outer_signature(self, signatures: Sequence[Signature]) -> Signature:
        """Return the spaces of the whole, given those of each component."""
        raise NotImplementedError(
            f"{type(self).__name__} does not say how its components meet: subclass Composition or "
            "Concatenation"
        )

    def unify(self, domain: AnySpace, codomain: AnySpace) -> Signature:
        signature = meet(self._signature[0], domain), meet(self._signature[1], codomain)
        if signature == self._signature:
            return signature
        return self.outer_signature(self.infer_signatures(self.components(), *signature))

    # The network

    def graph(self) -> Graph:
        if torch.compiler.is_compiling():
            return self.build_graph()
        cached = self._cached_graph
        if cached is None or not cached.is_valid_for(self):
            graph = self.build_graph()
            frozen = check_parameters(self, graph)
            self.check_paths(graph)
            cached = CachedGraph.of(self, graph, frozen, list(self._opaque_modules()))
            self._cached_graph = cached
        return cached.graph

    def _opaque_modules(self) -> Iterator[nn.Module]:
        """The torch modules directly inside of atoms and bonds."""
        for module in self.modules():
            if isinstance(module, Primitive):
                yield from module.children()

    def sites(self, path: str, signature: Signature) -> Iterator[Site]:
        yield Site(path, self, signature, None)
        inner = self.infer_signatures(self.components(), *signature)
        for i, (component, at) in enumerate(zip(self.components(), inner, strict=True)):
            yield from component.sites(join_path(path, str(i)), at)

    def __getstate__(self) -> dict[str, object]:
        """All but the graph: a copy builds its own."""
        return {name: value for name, value in self.__dict__.items() if name != "_cached_graph"}

    # A sequence of components

    def __iter__(self) -> Iterator[AnyModule]:
        return iter(self.components())

    def __len__(self) -> int:
        return len(self._modules)

    def __getitem__(self, index: int) -> AnyModule:
        return self.components()[index]

    def __setitem__(self, index: int, module: AnyModule) -> None:
        if not isinstance(module, AnyModule):
            refuse_operand(self, f"[{index}] =", module)
        components = self.components()
        components[index] = module
        try:
            self.infer_signatures(components, *self._signature)
        except MismatchError as mismatch:
            place = f"cannot put {module!r} in place {index} of {self!r}"
            raise CompositionError(f"{place}: {self._why_not(components, mismatch)}") from None
        note_edit()
        self._modules[str(range(len(self))[index])] = module

    def _why_not(self, components: Sequence[AnyModule], mismatch: MismatchError) -> str:
        """Why these components cannot replace the present ones."""
        try:
            signature = self.outer_signature(self.infer_signatures(components, ANYTHING, ANYTHING))
        except MismatchError as inner:
            return str(inner)
        if signature == self._signature:
            return str(mismatch)
        return (
            f"it would change the signature from {arrow(self._signature)} to {arrow(signature)}, "
            f"but the enclosing module needs {arrow(self._signature)}"
        )

    # Attributes

    def __setattr__(self, name: str, value: object) -> None:
        if name in self.__dict__.get("_modules", ()):
            self[int(name)] = cast("AnyModule", value)
            return
        if isinstance(value, (nn.Module, nn.Parameter)):
            self._refuse_member(name, value)
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        if name in self._modules:
            raise ParameterError(
                f"cannot take {self._modules[name]!r} out of {self!r}: assign another module in "
                f"its place, as in model[{name}] = Identity()"
            )
        super().__delattr__(name)

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        """Raise, since the parameter would not be part of the map.

        Raises:
            ParameterError: always; says what to write instead.
        """
        self._refuse_member(name, param)

    def add_module(self, name: str, module: nn.Module | None) -> None:
        """Raise, since the module would not be one of the components.

        Raises:
            ParameterError: always; says what to write instead.
        """
        self._refuse_member(name, module)

    def _refuse_member(self, name: str, value: object) -> NoReturn:
        kind = "parameter" if isinstance(value, nn.Parameter) else "module"
        inside = repr(self) if "_modules" in self.__dict__ else type(self).__name__
        raise ParameterError(
            f"{name!r} is a {kind} and cannot be an attribute of {inside}: the map of a "
            f"compound is the one that its components are composed to, and the {kind} would "
            "neither take part in it nor be trained. Compose it in, with @, + or a tuple; write an "
            "Atom for a parameter of your own; keep a module that is not part of the network "
            "outside"
        )

    def check_declaration(self, name: str, value: object) -> None:
        if name == "mass":
            how = "rescale it with tare(mass)"
        else:
            how = "scale the module, as in 0.5 * module"
        raise AttributeError(
            f"the {name} of {self!r} follows from the modules inside: {how}, or set that of an "
            "atom or bond inside"
        )

    # Print

    def tree_line(self, path: str, signature: Signature) -> Line:
        whole = super().tree_line(path, signature)
        if not self.graph().weights:
            return whole
        inner = self.infer_signatures(self.components(), *signature)
        lines = [
            component.tree_line(str(i), at)
            for i, (component, at) in enumerate(zip(self.components(), inner, strict=True))
        ]
        return whole._replace(name=self.title(), children=tuple(lines))

    def title(self) -> str:
        """Return the name of this module in the tree, where its components have their own lines."""
        return repr(self)


def join_path(path: str, name: str) -> str:
    """Return the path of the module `name` inside the one at `path`."""
    return f"{path}.{name}" if path else name


_KNOWN_NAMES: list[str] = []


def _names(count: int) -> list[str]:
    """At least `count` names of components, "0", "1", …, as torch names those of a Sequential."""
    _KNOWN_NAMES.extend(map(str, range(len(_KNOWN_NAMES), count)))
    return _KNOWN_NAMES
