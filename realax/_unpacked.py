"""Signatures that take keywords by a `TypedDict`."""

import inspect
from collections.abc import Callable, Mapping
from inspect import Parameter
from typing import Any, Unpack, get_args, get_origin, get_type_hints


def defaults_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the defaults of a function's arguments, by name."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not Parameter.empty}


def with_named_keywords(
    signature: inspect.Signature, defaults: Mapping[str, Any]
) -> inspect.Signature:
    """Return `signature` with a keyword for each entry of `**options: Unpack[Options]`.

    Type checkers read `Unpack`; interactive shells and checks at run time read this.

    **Arguments:**

    - `signature`: the signature of a function.
    - `defaults`: the default of each entry, by name.
    """
    parameters = list[Parameter]()
    for parameter in signature.parameters.values():
        hint = parameter.annotation
        if parameter.kind is Parameter.VAR_KEYWORD and get_origin(hint) is Unpack:
            (options,) = get_args(hint)
            parameters += [
                Parameter(
                    name,
                    Parameter.KEYWORD_ONLY,
                    default=defaults.get(name, ...),
                    annotation=kind,
                )
                for name, kind in get_type_hints(options).items()
            ]
        else:
            parameters.append(parameter)
    return signature.replace(parameters=parameters)
