"""What every step is: a function with its types, codecs, options and code. How steps are joined says `chain`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nbbatch.base.errors import DefinitionError
from nbbatch.code.fingerprint import fingerprint, source_of
from nbbatch.code.signature import Kind, Signature, members, type_name
from nbbatch.code.source import listing
from nbbatch.definition.options import Options
from nbbatch.values.codec import Codec, codec_for


class BaseStep:
    """What every step has; made by `step`.

    Attributes:
        name: Unique in its chain.
        function: The function itself, called plainly.
        options: As declared.
        kind: What it gives for one input.
        input, output: Codecs; output is None where it gives nothing.
        source: Its source text; "" where Python cannot tell.
    """

    def __init__(self, function: Callable[..., Any], name: str, options: Options, signature: Signature) -> None:
        self.function = function
        self.name = name
        self.options = options
        self.signature = signature
        self.kind = signature.kind
        self.input_type = signature.input_type
        self.output_types = () if signature.kind is Kind.NONE else members(signature.output_type)
        self.takes_params = signature.takes_params
        self.takes_input = signature.takes_input
        self.may_take_params = signature.may_take_params
        self.params_type = signature.params_type
        self.is_async = signature.is_async
        self.input = _codec(name, "takes", signature.input_type)
        self.output = None if signature.kind is Kind.NONE else _codec(name, "gives", signature.output_type)
        self.source = source_of(function)
        self.__name__, self.__doc__ = name, function.__doc__
        self.__wrapped__ = function

    def call(self, value: Any, params: Any, *, with_params: bool) -> Any:
        """Call the function with what it takes."""
        if not self.takes_input:
            return self.function()
        return self.function(value, params) if with_params else self.function(value)

    job: Any = None
    """The job that it is, see `Job.as_step`; None for a function."""

    @property
    def fingerprint(self) -> str:
        """Digest of its code and of what that reaches, as things stand now; comments and formatting make no difference."""
        job = self.job
        return fingerprint(self.function, "" if job is None else f"{job.name} {job.version} {job.shape}")

    @property
    def listing(self) -> str:
        """Its source after that of everything it reaches in its module or notebook."""
        return self.source if self.job is not None else listing(self.function) or self.source

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.function, self.name, self.options, self.signature)

    def __repr__(self) -> str:
        given = {Kind.MANY: "Iterator[{}]", Kind.NONE: "None"}.get(self.kind, "{}")
        shown = given.format(type_name(self.signature.output_type))
        taken = type_name(self.input_type)
        taken = f"Iterable[{taken}]" if self.kind is Kind.REDUCTION else taken if self.takes_input else "()"
        return f"<step {self.name}: {taken} → {shown}>"


def _codec(name: str, verb: str, annotation: Any) -> Codec:
    try:
        return codec_for(annotation)
    except Exception as error:
        raise DefinitionError(
            f"step {name!r} {verb} {type_name(annotation)}, which has no stored form ({str(error).splitlines()[0]}); "
            "use pydantic models, dataclasses, TypedDicts, plain JSON types or polars.DataFrame"
        ) from error


# --- chains --------------------------------------------------------------------------------------
