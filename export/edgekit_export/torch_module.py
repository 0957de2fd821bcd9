"""Running the user's module: arrays in, named arrays out, as the exported graph will be called."""

import inspect
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch.utils import _pytree as pytree

from edgekit_export.user_code import last_user_line
from edgekit_runtime.errors import RecipeError, TraceError

__all__ = ["TorchModel", "as_tensors"]

# Outputs that a device cannot hand on: no numpy array holds the first, and no onnxruntime tensor the others.
NO_NUMPY = (torch.bfloat16, torch.complex64, torch.complex128)


def as_tensors(feed: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Tensors that hold copies of the arrays."""
    return {name: torch.from_numpy(np.array(array, order="C")) for name, array in feed.items()}


class TorchModel:
    """A module with its inputs and outputs named.

    Args:
        module: In eval mode.
        example: Arrays by the names of forward's parameters.
        outputs: Output names; empty for ``output``, ``output_1``, ….

    Raises:
        RecipeError: The example's keys are not forward's parameters, the module is in training mode, or the number of
            output names is wrong.
        TraceError: ``forward`` fails on the example, or changes the module's own state.
    """

    def __init__(self, module: object, example: Mapping[str, np.ndarray], outputs: Sequence[str] = ()) -> None:
        if not isinstance(module, torch.nn.Module):
            raise RecipeError(f"recipe model: it returned {type(module).__name__}, expected a torch.nn.Module")
        if module.training:
            raise RecipeError(f"recipe model: {type(module).__name__} is in training mode; return module.eval()")
        self.module = module
        self._check_parameters(example)
        self.outputs = tuple(outputs)
        if shared := [name for name in self.outputs if name in example]:
            raise RecipeError(f"recipe outputs: {shared[0]!r} is an input's name too; give the output another")
        results = self._first_run(example)
        if not self.outputs:
            self.outputs = tuple("output" if index == 0 else f"output_{index}" for index in range(len(results)))
        if len(set(self.outputs)) != len(results):
            shapes = [list(result.shape) for result in results]
            raise RecipeError(
                f"recipe outputs: {list(self.outputs)} are {len(self.outputs)} names, {type(module).__name__}.forward gives "
                f"{len(results)} tensors of shapes {shapes}; name each once, in order"
            )

    def __call__(self, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The module's outputs by name, as arrays."""
        results = self._tensors(feed)
        return {name: result.detach().cpu().numpy() for name, result in zip(self.outputs, results, strict=True)}

    def _tensors(self, feed: Mapping[str, np.ndarray]) -> list[torch.Tensor]:
        with torch.no_grad():
            leaves = pytree.tree_leaves(self.module(**as_tensors(feed)))
        wrong = [type(leaf).__name__ for leaf in leaves if not isinstance(leaf, torch.Tensor)]
        wrong += [f"{leaf.dtype} tensors" for leaf in leaves if isinstance(leaf, torch.Tensor) and leaf.dtype in NO_NUMPY]
        if wrong or not leaves:
            raise TraceError(
                f"run {type(self.module).__name__}: forward gives {', '.join(wrong) or 'nothing'}, expected tensors of "
                "ordinary numbers only; return tensors (in a tuple, list or dict if several), converted with .float() where needed"
            )
        return leaves

    def _first_run(self, example: Mapping[str, np.ndarray]) -> list[torch.Tensor]:
        name = type(self.module).__name__
        try:
            results = self._tensors(example)
            before = {key: tensor.clone() for key, tensor in _state(self.module)}
            self._tensors(example)
        except (TraceError, MemoryError):
            raise
        except Exception as error:  # the user's code may raise anything
            shapes = {key: f"{array.dtype}{list(array.shape)}" for key, array in example.items()}
            raise TraceError(
                f"run {name} on the recipe's example {shapes}: {type(error).__name__}: {error}{last_user_line(error)}; "
                "make example() fit forward()"
            ) from error
        for key, tensor in _state(self.module):
            if key not in before or not _same(tensor, before[key]):
                raise TraceError(
                    f"trace {name}: forward() changes its own {key!r} in place{_assignment(self.module, key)}; a graph keeps no "
                    f"state between calls: take {key!r} as an input and return its new value as an output"
                )
        return results

    def _check_parameters(self, example: Mapping[str, np.ndarray]) -> None:
        parameters = inspect.signature(self.module.forward).parameters
        kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        names = [name for name, parameter in parameters.items() if parameter.kind in kinds]
        takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
        required = [name for name in names if parameters[name].default is inspect.Parameter.empty]
        unknown = [key for key in example if key not in names and not takes_any]
        missing = [name for name in required if name not in example]
        known = [key for key in example if key in names]
        if unknown or missing or known != [name for name in names if name in example]:
            raise RecipeError(
                f"recipe example: its keys are {list(example)}, {type(self.module).__name__}.forward takes ({', '.join(names)}); "
                "use forward's parameter names, in its order"
            )


def _state(module: torch.nn.Module) -> list[tuple[str, torch.Tensor]]:
    """Parameters and buffers, those that a state dict leaves out too."""
    return [*module.named_parameters(), *module.named_buffers()]


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors hold the same values; NaN is the same as NaN."""
    return one.shape == other.shape and bool(((one == other) | ((one != one) & (other != other))).all())


def _assignment(module: torch.nn.Module, key: str) -> str:
    """Where in the source of the submodule that owns `key` it is assigned, as far as the text shows it."""
    path, _, attribute = key.rpartition(".")
    owner = module.get_submodule(path)
    try:
        lines, first = inspect.getsourcelines(type(owner).forward)
        file = inspect.getsourcefile(type(owner))
    except (OSError, TypeError):
        return ""
    itself = next(iter(inspect.signature(type(owner).forward).parameters), "self")
    for offset, line in enumerate(lines):
        after = line.partition(f"{itself}.{attribute}")[2].lstrip()
        changes = after.startswith(("=", "+=", "-=", "*=", "/=", "[")) and not after.startswith("==")
        if changes or (after.startswith(".") and after.partition("(")[0].rstrip().endswith("_")):
            return f' ({file}:{first + offset}: "{line.strip()}")'
    return ""
