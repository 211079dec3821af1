"""Signatures that take keywords by a `TypedDict`."""

import inspect
from inspect import Parameter
from typing import Unpack, get_args, get_origin, get_type_hints


def with_named_keywords(signature: inspect.Signature) -> inspect.Signature:
    """`signature` with a keyword for each entry of `**options: Unpack[Options]`.

    Type checkers read `Unpack`; interactive shells and checks at run time read this.
    The default of such a keyword is `...`: another function knows it.
    """
    parameters = list[Parameter]()
    for parameter in signature.parameters.values():
        hint = parameter.annotation
        if parameter.kind is Parameter.VAR_KEYWORD and get_origin(hint) is Unpack:
            (options,) = get_args(hint)
            parameters += [
                Parameter(name, Parameter.KEYWORD_ONLY, default=..., annotation=kind)
                for name, kind in get_type_hints(options).items()
            ]
        else:
            parameters.append(parameter)
    return signature.replace(parameters=parameters)
