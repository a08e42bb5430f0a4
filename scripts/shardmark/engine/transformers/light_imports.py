"""Import transformers without what models on CPUs do not use, which takes a quarter of a worker's start.

torch's compiler (`torch._dynamo`, with sympy) is imported when something of it is used. Tensors across processes are
left out, as transformers leaves them out where torch is built without `torch.distributed`; so is SciPy for the losses
of object detection, as where it is not installed. Nothing that computes an answer differs. Only fork servers for CPUs
import this way, and not for models with code of their own, which may use anything.
"""

import functools
import importlib
import importlib.util
import logging
import sys
import threading
from types import ModuleType
from typing import Any

import torch

log = logging.getLogger(__name__)

COMPILER = "torch._dynamo"
USED = f"{COMPILER}._trace_wrapped_higher_order_op"
"What attention masks need of the compiler; it needs nothing else of it."
MODULES = ("transformers.modeling_utils", "transformers.generation.utils", "torch.fx.experimental.symbolic_shapes")
"What every model needs; the last, with sympy, when tensors without memory are made for it."
MARKS = ("allow_in_graph", "assume_constant_result")
"Decorators that note something about a function for the compiler, and return it."
DISABLED = "__dynamo_disable"
"The attribute of a function that torch disables for the compiler: what torch calls instead."


class _Deferred(ModuleType):
    """The compiler's package, executed when an attribute or a module of it is first needed."""

    def __init__(self) -> None:
        super().__init__(COMPILER)
        spec = importlib.util.find_spec(COMPILER)
        assert spec
        assert spec.loader
        self.__spec__, self._loader = spec, spec.loader
        self._path = spec.submodule_search_locations or []
        self._lock = threading.RLock()
        self._executed = False
        self._decorating = True
        self._marked: list[tuple[str, Any]] = []
        self._disabled: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        """An attribute that the package does not have yet."""
        if name == "disable" and not self._executed:
            return self._disable
        if name in MARKS and self._decorating and not self._executed:
            return functools.partial(self._mark, name)
        if name == "__path__" or not name.startswith("__"):
            self._execute()
        return ModuleType.__getattribute__(self, name)

    def _mark(self, mark: str, function: Any) -> Any:
        self._marked.append((mark, function))
        return function

    def _disable(self, function: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Disable nothing in transformers' own modules, nor when torch calls a function that it disables."""
        by_torch = kwargs.get("wrapping") is False
        if self._executed or not (self._decorating or by_torch):
            self._execute()
            return self.disable(function, *args, **kwargs)
        if not function:
            return lambda decorated: decorated
        self._disabled.append(function)
        return function

    def _execute(self) -> None:
        with self._lock:
            if self._executed:
                return  # or it is being executed, by its own modules
            self._executed = True
            self.__path__ = self._path
            self._loader.exec_module(self)
            for mark, function in self._marked:
                getattr(self, mark)(function)
            for function in self._disabled:
                if hasattr(function, DISABLED):
                    delattr(function, DISABLED)

    def begin(self) -> None:
        """Import the only module that does without the package."""
        self.__path__ = self._path
        importlib.import_module(USED)
        del self.__path__

    def end(self) -> None:
        """Decorators of the modules that are imported from here on need the package."""
        self._decorating = False


def import_light() -> None:
    """Import transformers' models and generation; without delay where the compiler has been imported.

    With versions of torch or transformers that have other parts, everything is imported as usual.
    """
    if COMPILER in sys.modules:
        return
    try:
        _import_light()
    except Exception as error:
        log.warning("importing all of torch and transformers, because %r", error)
        for name in [name for name in sys.modules if f"{name}.".startswith((f"{COMPILER}.", "transformers."))]:
            del sys.modules[name]
        vars(torch).pop("_dynamo", None)


def _import_light() -> None:
    deferred = sys.modules[COMPILER] = torch._dynamo = _Deferred()
    deferred.begin()
    from transformers import utils

    utils.is_torch_distributed_available = utils.import_utils.is_torch_distributed_available = _no
    has_scipy, utils.is_scipy_available = utils.is_scipy_available, _no
    try:
        importlib.import_module("transformers.loss.loss_utils")
    finally:
        utils.is_scipy_available = has_scipy
    for name in MODULES:
        importlib.import_module(name)
    deferred.end()


def _no() -> bool:
    return False
