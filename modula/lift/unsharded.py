"""`unsharded`: a sharded module as one that runs without communication.

Under `fully_shard` the parameters that a forward method sees are not those that the module lists,
and which tensors they are changes from layer to layer.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from torch import nn

from modula.errors import LiftError
from modula.sharding import is_sharded


def unsharded(model: nn.Module) -> nn.Module:
    """Return the module itself, or where parameters are sharded, a copy of it with whole ones.

    The copy shares buffers and all other attributes with the module, and runs no hooks of
    torch.distributed. Every process must make it, since it gathers the parameters.

    Raises:
        LiftError: the module is under FullyShardedDataParallel, which flattens parameters.
    """
    if "torch.distributed.fsdp" not in sys.modules:
        return model
    from torch.distributed.fsdp import FullyShardedDataParallel

    for path, module in model.named_modules():
        if isinstance(module, FullyShardedDataParallel):
            raise LiftError(
                f"{path or 'the model'!r} is under FullyShardedDataParallel, which flattens its "
                "parameters: shard it by torch.distributed.fsdp.fully_shard, before or after lift"
            )
    if not any(is_sharded(p) for p in model.parameters()):
        return model
    return _Copies().of(model)


class _Copies:
    """Copies of modules and parameters, one for each."""

    def __init__(self) -> None:
        self._known_modules: dict[int, nn.Module] = {}
        self._known_parameters: dict[int, nn.Parameter] = {}

    def of(self, module: nn.Module) -> nn.Module:
        """Return the copy of a module, with copies of those inside it."""
        known = self._known_modules.get(id(module))
        if known is not None:
            return known
        kind = _without_sharding(type(module))
        copy: nn.Module = kind.__new__(kind)
        self._known_modules[id(module)] = copy
        copy.__dict__.update(module.__dict__)
        for name in ("_forward_hooks", "_forward_pre_hooks"):
            hooks: Mapping[int, object] = module.__dict__[name]
            own = {key: hook for key, hook in hooks.items() if not _is_of_torch(hook)}
            copy.__dict__[name] = type(hooks)(own)  # type: ignore[call-arg] # an OrderedDict
        copy._buffers = dict(module._buffers)
        copy._parameters = {
            name: None if p is None else self._whole(p) for name, p in module._parameters.items()
        }
        copy._modules = {
            name: None if inner is None else self.of(inner)
            for name, inner in module._modules.items()
        }
        if isinstance(copy, nn.RNNBase):  # it lists its weights a second time
            copy._flat_weights = [getattr(copy, name) for name in copy._flat_weights_names]
        return copy

    def _whole(self, p: nn.Parameter) -> nn.Parameter:
        if id(p) not in self._known_parameters:
            tensor = p.detach()
            whole = tensor.full_tensor() if is_sharded(tensor) else tensor
            self._known_parameters[id(p)] = nn.Parameter(whole, p.requires_grad)
        return self._known_parameters[id(p)]


def _without_sharding(kind: type[nn.Module]) -> type[nn.Module]:
    """The class of a module before `fully_shard` derived another from it."""
    from torch.distributed.fsdp import FSDPModule

    bases = [one for one in kind.__mro__ if issubclass(one, nn.Module)]
    return next(one for one in bases if not issubclass(one, FSDPModule))


def _is_of_torch(hook: object) -> bool:
    function = getattr(hook, "__func__", hook)
    return str(getattr(function, "__module__", "")).startswith("torch.distributed")
