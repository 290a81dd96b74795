"""What every step is: a function with its types, codecs, options and code. How steps are joined says `chain`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from pydantic import PydanticUserError

from nbbatch.base.errors import DefinitionError
from nbbatch.base.uses import Use
from nbbatch.code.fingerprint import fingerprint, source_of
from nbbatch.code.marks import marks_of
from nbbatch.code.reads import reads_of
from nbbatch.code.renewal import current_class, renewed_signature, two_classes, unread
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
        self.kind = signature.kind
        self.takes_params = signature.takes_params
        self.takes_input = signature.takes_input
        self.may_take_params = signature.may_take_params
        self.is_async = signature.is_async
        self._read(signature)
        self.source = source_of(function)
        self.__name__, self.__doc__ = name, function.__doc__
        self.__wrapped__ = function

    def _read(self, signature: Signature) -> None:
        """Take the types of a signature."""
        none = signature.kind is Kind.NONE
        self.input = _codec(self.name, "takes", signature.input_type)
        self.output = None if none else _codec(self.name, "gives", signature.output_type)
        self.input_type = signature.input_type
        self.output_types = () if none else members(signature.output_type)
        self.params_type = signature.params_type
        self.signature = signature

    @property
    def scope(self) -> Mapping[str, Any]:
        """The names that its function finds when it runs."""
        return getattr(self.function, "__globals__", {})

    def renew(self) -> bool:
        """Read its types and exceptions anew where their classes were defined again; whether a type was.

        Its function gives and takes what these names stand for when it runs.

        Raises:
            DefinitionError: A new class does not read what the old one had, or has no stored form.
        """
        self.options = renewed_options(self.options, self.scope)
        now = (
            renewed_signature(self.signature, self.function)
            if self.job is None
            else self.job.renewed_step(self.signature)
        )
        if now is self.signature:
            return False
        self._check_read(now)
        self._read(now)
        return True

    def _check_read(self, now: Signature) -> None:
        """Raises DefinitionError where a class that was defined again has another form: the step was written for the old one."""
        for name in ("input_type", "output_type", "params_type"):
            why = unread(getattr(self.signature, name), getattr(now, name))
            if why:
                kind = why.partition(".")[0]
                raise DefinitionError(f"step {self.name!r} was defined for an older class ({why}): {two_classes(kind)}")

    def call(self, value: Any, params: Any, *, with_params: bool) -> Any:
        """Call the function with what it takes."""
        if not self.takes_input:
            return self.function()
        return self.function(value, params) if with_params else self.function(value)

    job: Any = None
    """The job that it is, see `Job.as_step`; None for a function."""

    @property
    def redefined(self) -> BaseStep | None:
        """The step that its module or notebook has in its place by now, as its cell was run again and not that of the job; else None.

        A step that is still to be found under some other name is meant as it is.
        """
        scope = self.scope
        found = scope.get(getattr(self.function, "__name__", ""))
        if not isinstance(found, BaseStep) or found.function is self.function or found.name != self.name:
            return None
        is_same = found.kind is self.kind and found.function.__qualname__ == self.function.__qualname__
        is_held = any(value is self and not name.startswith("_") for name, value in tuple(scope.items()))
        return found if is_same and not is_held else None

    @property
    def fingerprint(self) -> str:
        """Digest of its code and of what that reaches, as things stand now; comments and formatting make no difference."""
        job = self.job
        if job is None:
            return fingerprint(self.function)
        return fingerprint(
            self.function, f"{job.name} {job.version} {job.shape} {[each.fingerprint for each in job.steps]}"
        )

    @property
    def parts(self) -> dict[str, str]:
        """Of each name that its code reaches a digest of what that means: what has changed where its fingerprint has."""
        return marks_of(self.function) if self.job is None else {each.name: each.fingerprint for each in self.job.steps}

    @property
    def reads(self) -> frozenset[Use] | None:
        """How it uses the parameters that are its second argument, where its text shows all of it; else None."""
        return reads_of(self.function, 1) if self.may_take_params or self.takes_params else None

    @property
    def listing(self) -> str:
        """Its source after that of everything it reaches in its module or notebook."""
        return self.source if self.job is not None else listing(self.function) or self.source

    def listed(self, code: str) -> tuple[str, dict[str, str]]:
        """Its `listing` and its `parts` as they were when its code had this fingerprint first: they take milliseconds to make."""
        if self._listed is None or self._listed[0] != code:
            self._listed = code, (self.listing, self.parts)
        return self._listed[1]

    _listed: tuple[str, tuple[str, dict[str, str]]] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.function, self.name, self.options, self.signature)

    def __repr__(self) -> str:
        given = {Kind.MANY: "Iterator[{}]", Kind.NONE: "None"}.get(self.kind, "{}")
        shown = given.format(type_name(self.signature.output_type))
        taken = type_name(self.input_type)
        taken = f"Iterable[{taken}]" if self.kind is Kind.REDUCTION else taken if self.takes_input else "()"
        return f"<step {self.name}: {taken} → {shown}>"


def renewed_options(options: Options, scope: Mapping[str, Any]) -> Options:
    """Options with the present classes of exceptions; the same object where none was defined again."""
    names = ("retry_on", "fail_on", "skip_on")
    now = {name: tuple(current_class(each, scope) for each in getattr(options, name)) for name in names}
    return options if all(now[name] == getattr(options, name) for name in names) else replace(options, **now)


def _codec(name: str, verb: str, annotation: Any) -> Codec:
    try:
        return codec_for(annotation)
    except Exception as error:
        raise DefinitionError(
            f"step {name!r} {verb} {type_name(annotation)}, which cannot be stored: {_why(error)}"
        ) from error


def _why(error: Exception) -> str:
    if isinstance(error, PydanticUserError):
        return f"pydantic says {str(error).splitlines()[0].partition('. Set ')[0]!r}"
    return str(error).splitlines()[0]


# --- chains --------------------------------------------------------------------------------------
