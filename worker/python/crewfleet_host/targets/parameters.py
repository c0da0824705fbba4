"""The parameters of what makes a crew, and the inputs of a kickoff that go into them.

A factory, a class with an `__init__` of its own, a dataclass or a functools.partial is called with the inputs that bear the
names of its parameters:

    def build(topic, tone="dry")      topic is a required input, tone an optional one
    def build(inputs)                 gets all inputs as one dict, unless an input is itself named "inputs"
    def build(**inputs)               gets all inputs that no other parameter took
    def build()                       gets none
"""

import contextlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from . import crewai_types

_ALL = "inputs"


@dataclass(frozen=True)
class Parameters:
    """The names of parameters: `required` and `optional` ones; `all_as_dict` where a parameter takes all inputs as one dict,
    `rest` where `**kwargs` takes what is left; `positional` are those that can only be given by position, in order. `signature` has their types."""

    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    positional: tuple[str, ...] = ()
    all_as_dict: bool = False
    rest: bool = False
    signature: inspect.Signature | None = field(default=None, compare=False)

    @property
    def any(self) -> bool:
        """Whether inputs change what is made."""
        return bool(self.required or self.optional or self.all_as_dict or self.rest)

    @property
    def need_inputs(self) -> bool:
        """Whether nothing can be made without a kickoff's inputs."""
        return bool(self.required) or self.all_as_dict

    def missing(self, inputs: dict[str, Any]) -> list[str]:
        """The required ones that `inputs` lack."""
        return [name for name in self.required if name not in inputs]

    def arguments(self, inputs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """The arguments of a call, by position and by name; `inputs` lack no required one."""
        by_position = []
        for name in self.positional:
            if name not in inputs:
                break  # an optional one, and what follows is optional too
            by_position.append(inputs[name])
        named = {name: inputs[name] for name in (*self.required, *self.optional) if name in inputs and name not in self.positional}
        if self.all_as_dict:
            named[_ALL] = inputs.get(_ALL, inputs)
        if self.rest:
            named |= {name: value for name, value in inputs.items() if name not in self.positional and name not in named}
        return by_position, named


def parameters_of(made_by: Callable[..., Any]) -> Parameters:
    """The parameters of a factory or a class. CrewAI's own constructors (Flow, Crew, Agent) take no inputs."""
    signature = _signature(made_by)
    if signature is None:
        return Parameters()
    required: list[str] = []
    optional: list[str] = []
    positional: list[str] = []
    all_as_dict = rest = False
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            rest = True
        elif parameter.kind is not parameter.VAR_POSITIONAL:
            if name == _ALL and parameter.default is parameter.empty and parameter.kind is not parameter.POSITIONAL_ONLY:
                all_as_dict = True
                continue
            (required if parameter.default is parameter.empty else optional).append(name)
            if parameter.kind is parameter.POSITIONAL_ONLY:
                positional.append(name)
    return Parameters(tuple(required), tuple(optional), tuple(positional), all_as_dict, rest, signature)


def _signature(made_by: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return _of_class(made_by) if inspect.isclass(made_by) else _with_types(made_by)
    except (TypeError, ValueError):  # a builtin tells nothing
        return None


def _of_class(made_by: type) -> inspect.Signature | None:
    if crewai_types.is_model_class(made_by):
        return _own_init(made_by)
    if not crewai_types.is_crew_base(made_by) and type(made_by).__call__ is type.__call__:
        return _with_types(made_by)
    # @CrewBase's metaclass, in older versions its class above the user's, takes whatever comes, and hands it to __init__.
    inits = (vars(owner)["__init__"] for owner in made_by.__mro__ if "__init__" in vars(owner))
    init = next(init for init in inits if not crewai_types.is_crewais_own(init))
    return None if init is object.__init__ else _without_self(_with_types(init))


def _own_init(made_by: type) -> inspect.Signature | None:
    """Of the user's own `__init__` in a subclass of Flow or Crew, its named parameters; `**kwargs` are CrewAI's there."""
    for owner in made_by.__mro__:
        if crewai_types.is_crewais_own(owner):
            return None
        if "__init__" in vars(owner):
            signature = _without_self(_with_types(vars(owner)["__init__"]))
            named = [parameter for parameter in signature.parameters.values() if parameter.kind is not parameter.VAR_KEYWORD]
            return signature.replace(parameters=named)
    return None


def _with_types(made_by: Callable[..., Any]) -> inspect.Signature:
    """A signature with its types, as text where they cannot be found: they may be there for a type checker alone."""
    with contextlib.suppress(Exception):
        return inspect.signature(made_by, eval_str=True)
    return inspect.signature(made_by)


def _without_self(signature: inspect.Signature) -> inspect.Signature:
    return signature.replace(parameters=list(signature.parameters.values())[1:])
