"""The job definition: a name, a version and a chain, with everything the engine needs derived from it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar, Unpack, cast, overload

from nbbatch.base import ranges
from nbbatch.base.arguments import answering
from nbbatch.base.errors import DefinitionError, ParameterError, StateError
from nbbatch.code.big_values import one_look
from nbbatch.code.renewal import checked
from nbbatch.code.signature import Kind, Signature, accepts, default_of, has_fields, type_name
from nbbatch.definition.base_step import BaseStep
from nbbatch.definition.chain import ClosedChain, End, Step, links_of
from nbbatch.definition.links import Links, loose, tell_outdated
from nbbatch.definition.listeners import Event, Listeners
from nbbatch.definition.options import SubjobOptions, checked_name, named, read_options
from nbbatch.definition.routing import Way, address, ways_of
from nbbatch.values.codec import Codec, codec_for
from nbbatch.values.parameters import ParamsCodec

if TYPE_CHECKING:
    from nbbatch.pictures.picture import Picture

P = TypeVar("P")
Q = TypeVar("Q")
R_co = TypeVar("R_co", covariant=True)
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """A step at its position in a job."""

    index: int
    step: BaseStep
    sources: tuple[int, ...]
    targets: tuple[int, ...]
    gated: bool
    weight: float
    named: tuple[Way, ...]
    """Its ways out."""
    ways: tuple[Way, ...]
    """The same, where there are several or one has a condition; empty: each value goes to every target."""
    max_failed: float = 0
    """Its failed chunks that do not fail the instance: a number (int), or a share (float)."""
    code: str = ""
    """Fingerprint of the step when an instance took it up."""
    upgrade: Callable[[str, Any], Any] | None = None
    takes_params: bool = False
    """Whether its second parameter is given the job's parameters."""
    reads: frozenset[tuple[str, ...]] | None = None  # see BaseStep.reads
    others: tuple[tuple[Any, ...], tuple[Any, ...]] = ((), ())
    """Types other than its own that the steps before it give, and that those behind it take."""
    reuse: bool = False
    """Whether its chunks may take outputs of equal ones that completed, unless a submit says otherwise."""

    @property
    def input(self) -> Codec:
        """Codec of what it takes, as the steps before it write it."""
        return codec_for(self.step.input_type, self.others[0]) if self.others[0] else self.step.input

    @property
    def output(self) -> Codec | None:
        """Codec of what it gives, as the steps behind it read it; None: it gives nothing."""
        own = self.step.output
        return codec_for(own.type, self.others[1]) if self.others[1] and own else own

    @property
    def plain(self) -> bool:
        """Whether each chunk returns at most one output by a plain call. The worker has a fast path for these."""
        return self.index > 0 and not self.step.is_async and self.step.kind in (Kind.ONE, Kind.NONE)

    def route(self, value: Any) -> tuple[int, ...]:
        """The targets of a value."""
        return ways_of(self.ways, value) if self.ways else self.targets

    def address(self, name: str, value: Any) -> tuple[int, ...]:
        """The target that `to` names."""
        return address(self.step.name, self.named, name, value)


Problems = str | Iterable[str] | None


class JobDefinition(Generic[P, R_co]):
    """A job definition: a name, a version, and a chain of steps.

    Attributes:
        nodes: The steps in topological order. The first takes the parameters.
        params: Codec of the parameters.
        report: Codec of the reduction's return value; None without a reduction.
        shape: JSON of step names, order, types and gates. An instance can only continue with a job of the same shape.

    Example:
        >>> job = nb.Job("shop", read >> price >> total, max_failed=0.5)
        >>> batch.submit(job, 5).result()  # one of five orders has no price
        10.0
    """

    @answering("nb.Job", DefinitionError)
    def __init__(
        self,
        name: str,
        chain: ClosedChain[P, R_co] | End[P, Any],
        *,
        version: int = 1,
        gated: bool = False,
        description: str = "",
        validate: Callable[[P], Problems] | None = None,
        max_failed: float = 0,
        fail_fast: bool = False,
        on_complete: Callable[[Any], Any] | None = None,
        on_error: Callable[[Any], Any] | None = None,
        before_store: Callable[[P, dict[str, Any]], Any] | None = None,
        start_limit: int | None = None,
        upgrade: Callable[[str, Any], Any] | None = None,
        reuse: bool = False,
    ) -> None:
        """Define a job. Nothing is registered or stored.

        Args:
            name: At most 100 printable characters.
            chain: Steps joined by ``>>``; the last one returns None or is a reduction.
            version: 1 or more; raise it when the chain's shape changes.
            gated: Each step starts only when all steps before are completely done.
            description: Shown with the job.
            validate: Takes valid parameters and returns further problems, as texts ``"field: why"``.
            max_failed: Failed chunks of a step that do not fail the instance, for steps without a value of their own: a number,
                or a share of the step's chunks (a float). Does not apply to the first step and the reduction.
            fail_fast: Start nothing new once more chunks have failed than ``max_failed`` allows. A share is judged once the steps
                before are done. Without it, everything that can run still runs, and the instance is FAILED after that.
            on_complete: Called with the handle after COMPLETED is committed.
            on_error: Called with the handle after FAILED or CANCELLED is committed.
            before_store: Called at each submit, of a sub-job too, before anything is stored, with the valid parameters and the
                user data, a dict that it may fill. If it raises, the submit is refused. If the submit returns an existing
                instance, the user data is discarded unless ``submit(user_data=)`` was given too.
            start_limit: How often an instance may be started: by its submit, and by each `retry` or `rerun` after its end.
            upgrade: Called where a stored input is not read by a step's type any more, with the step's name and the stored form as
                plain JSON values (of the first step: the parameters); returns the form that is read now.
            reuse: ``reuse=`` of all steps that do not say it themselves, but for those with ``always=True``; see `step`.

        Raises:
            DefinitionError: An argument is invalid, or the chain is incomplete.
        """
        links = links_of(chain)
        self.name = checked_name("job", name)
        try:
            self.version = ranges.whole(version, "version=")
            self.description = ranges.text(description, "description=")
            self.start_limit = None if start_limit is None else ranges.limit(start_limit, "start_limit=")
            allowed = ranges.budget(max_failed, "max_failed=")
            self.reuse = ranges.flag(reuse, "reuse=")
        except ValueError as error:
            raise DefinitionError(f"job {name!r}: {error}") from None
        self.gated, self.fail_fast, self.listeners = gated, fail_fast, Listeners(name)
        self.validate, self.on_complete, self.on_error = validate, on_complete, on_error
        self.before_store, self.upgrade = before_store, upgrade
        self._links, self._allowed = links, allowed
        self._signatures: list[Signature] = []
        self.renew()

    def renew(self) -> None:
        """Read the types of its steps anew where their classes were defined again since: a cell or module was run again.

        Raises:
            DefinitionError: Its steps do not fit together any more.
        """
        name, links = self.name, self._links
        for each in links.steps:
            each.renew()
        signatures = [each.signature for each in links.steps]
        if signatures == self._signatures:
            return
        _check_chain(name, links)
        links.check_edges()
        self.nodes = tuple(
            replace(each, upgrade=self.upgrade, reuse=each.step.options.reuses(self.reuse))
            for each in _nodes(name, links, self.gated, self._allowed)
        )
        first, last = self.nodes[0].step, self.nodes[-1].step
        self.params_type, self.params = first.input_type, _params(first)
        self.report = last.output if last.kind is Kind.REDUCTION else None
        self.shape = json.dumps([_shape(node) for node in self.nodes], sort_keys=True)
        self._signatures = signatures
        tell_outdated(name, links)

    def renewed_step(self, given: Signature) -> Signature:
        """The signature of this job as a step; the one that is given where nothing has changed."""
        self.renew()
        now = replace(given, input_type=self.params_type, output_type=self._gives())
        return given if now == given else now

    def _gives(self) -> Any:
        return None if self.report is None else self.nodes[-1].step.signature.output_type

    @property
    def steps(self) -> tuple[BaseStep, ...]:
        """The steps, in the order of ``nodes``; ``[step.name for step in job.steps]`` are their names.

        Example:
            >>> [step.name for step in job.steps]
            ['read', 'price', 'total']
        """
        return tuple(node.step for node in self.nodes)

    def on(self, event: Event) -> Callable[[F], F]:
        """Register a listener for an event of this job's instances: ``@job.on("after_attempt")``.

        - ``instance_started``, ``instance_ended``: called with the handle, in a thread of this process, after the first claim or
          the end is committed.
        - ``step_started``, ``step_ended``: called with the handle and the step's name, likewise, at the first claim of a chunk
          of the step, and when the step is completely done or the instance ends without it.
        - ``before_attempt``: called with `nb.context()`, in the worker.
        - ``after_attempt``: called in the worker with `nb.context()` and what the step raised (signals too), or None.

        Start listeners run in registration order, end listeners in reverse order. What a listener raises is logged and changes
        nothing. An attempt listener that raises three times in a row is no longer called by that process until it is defined
        again. A function with the same name replaces the earlier one, so that its cell can be run again. (Lambdas of one scope
        share a name.) An instance that is taken up again, after a restart or by a retry, notifies of its steps and its end again.
        Notifications cut off by a crash are lost. In worker processes, attempt listeners are copies: changes they make stay
        there, and listeners that cannot be pickled are left out, with a line in the log. A step that is a job has no attempts;
        that job has its own listeners. A replay or a preview notifies nobody.

        Args:
            event: The event.

        Raises:
            DefinitionError: The event is unknown, or the function is async.

        Example:
            >>> ended = []
            >>> @job.on("instance_ended")
            ... def note(run):
            ...     ended.append(run.id)
            >>> batch.submit(job, 2).result()
            5.0
        """
        return self.listeners.on(event)

    def around(self, function: F) -> F:
        """Register a context manager that is entered around each attempt, in the worker: for timers, traces and log contexts.

        It decorates a function that takes `nb.context()` and returns a context manager, or a generator function with one
        ``yield``. The context manager sees what the step raised. It cannot change that, nor the outputs. What it raises itself is
        logged, and the attempt continues without it, so what a step needs belongs in the step. One that raises three times in a
        row is no longer called by that process until it is defined again. The first one registered is the outermost. Attempt listeners run outside of all.

        Args:
            function: The function.

        Raises:
            DefinitionError: The function is async.

        Example:
            >>> @job.around
            ... @contextmanager
            ... def traced(context):
            ...     context.log.info("%s begins", context.step)
            ...     yield
            >>> batch.submit(job, 2).logs("total")["text"].to_list()
            []
        """
        return self.listeners.around(function)

    def current(self) -> tuple[Node, ...]:
        """The nodes with the current fingerprints of their code, because names that steps use may have changed."""
        with one_look():
            return tuple(replace(node, code=node.step.fingerprint, reads=node.step.reads) for node in self.nodes)

    def check(self, params: Any) -> P:
        """Validate parameters, and return them as their declared type.

        Raises:
            ParameterError: They are invalid; all problems are listed.

        Example:
            >>> job.check("3")
            3
        """
        params = self._unsaid() if params is None else params
        valid = checked(self.params.validate, params, self.name)
        found = self.validate(valid) if self.validate else None
        problems = [found] if isinstance(found, str) else list(found or ())
        if problems:
            raise ParameterError(self.name, problems)
        return valid

    def _unsaid(self) -> Any:
        """The parameters where none are given: None, the first step's default, or those that a model makes of nothing."""
        if accepts(self.params_type, None):
            return None
        if (default := default_of(self.nodes[0].step.function)) is not None:
            return default
        if has_fields(self.params_type):
            return {}
        problem = f"none are given, and it takes {type_name(self.params_type)}: batch.submit(job, parameters)"
        raise ParameterError(self.name, [problem])

    def shape_difference(self, stored: str) -> str:
        """Describe the difference between the shape an instance began with and this job's."""
        before, after = json.loads(stored), json.loads(self.shape)
        names = [each["name"] for each in before], [each["name"] for each in after]
        if names[0] != names[1]:
            return f"its steps were {' >> '.join(names[0])}, now they are {' >> '.join(names[1])}"
        changed = [
            f"step {old['name']!r}: {key} was {old[key]}, now {new[key]}"
            for old, new in zip(before, after, strict=True)
            for key in old
            if old[key] != new[key]
        ]
        return "; ".join(changed)

    @overload
    def as_step(
        self: JobDefinition[Q, None], name: str | None = None, **options: Unpack[SubjobOptions]
    ) -> End[Q, None]: ...
    @overload
    def as_step(self, name: str | None = None, **options: Unpack[SubjobOptions]) -> Step[P, R_co, R_co]: ...
    @named(SubjobOptions, max_attempts=1)
    def as_step(self, name: str | None = None, **options: Any) -> Any:
        """This job as a step of another job. The step takes the job's parameters and returns its report.

        Each chunk submits an instance and waits for its end without occupying a worker, up to 64 at once (see ``concurrency=``).
        The instance is found again after a crash and is cancelled with its parent instance. If it fails, the chunk fails;
        ``run.retry()`` of the parent then takes it up again, unless its data was dropped (``retain="none"``, which it inherits).
        Pausing one of them does not pause the other.

        Args:
            name: Name of the step; default: the job's name.
            options: The options of `step` except ``timeout`` and ``max_wait``. ``max_attempts`` is 1 by default: a failed
                sub-job is not retried automatically.

        Raises:
            DefinitionError: An option is unknown, or is ``timeout=``, which would end the wait and not the work.
            StateError: The step is called like a function.

        Example:
            >>> @nb.step
            ... def sizes(most: int) -> Iterator[int]:
            ...     yield from range(1, most)
            >>> @nb.step
            ... def best(totals: Iterable[float]) -> float:
            ...     return max(totals)
            >>> batch.submit(nb.Job("shops", sizes >> job.as_step() >> best), 3).result()
            5.0
        """
        if "timeout" in options:
            raise DefinitionError(f"job {self.name!r} as a step takes no timeout=; give it to the steps inside")
        given = {"max_attempts": 1, **options}
        return as_step(self, checked_name("step", self.name if name is None else name), given)

    def __repr__(self) -> str:
        chain = " >> ".join(self._words(node) for node in self.nodes)
        return f"<Job {self.name} v{self.version}: {type_name(self.params_type)} → {chain}>"

    def _words(self, node: Node) -> str:
        given = node.step.signature
        many = {Kind.MANY: "→ * {}", Kind.ONE: "→ {}", Kind.NONE: "", Kind.REDUCTION: "⇒ {}"}[node.step.kind]
        gate = "| " if node.gated else ""
        return f"{gate}{node.step.name} {many.format(type_name(given.output_type))}".rstrip()

    def chain(self) -> Picture:
        """Draw the typed chain: steps, types, branches, gates. `JobHandle.chain` draws a run's chunks too.

        Example:
            >>> job.chain()
            shop v1
              read   int → * Order
              price  Order → float
            ‖ total  all float → float
        """
        from nbbatch.pictures import chain_picture

        about = f": {self.description}" if self.description else ""
        return chain_picture.chain(
            f"{self.name} v{self.version}{about}", chain_picture.from_shape(self.shape), counted=False
        )

    def _repr_svg_(self) -> str:
        return self.chain().svg

    def _repr_html_(self) -> str:
        return self.chain()._repr_html_()  # pyright: ignore[reportPrivateUsage]

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return self.chain()._repr_mimebundle_(include, exclude)  # pyright: ignore[reportPrivateUsage]


def as_step(job: JobDefinition[Any, Any], name: str, options: dict[str, Any]) -> Step[Any, Any, Any] | End[Any, Any]:
    """The step a job makes; a function step in all but where it runs."""

    def submitted(params: Any) -> Any:
        raise StateError(f"step {name!r} is {job!r}; batch.submit(job, {params!r}) runs it")

    kind = Kind.NONE if job.report is None else Kind.ONE
    given = job._gives()  # pyright: ignore[reportPrivateUsage]
    signature = Signature(kind, job.params_type, given, takes_params=False, params_type=None, is_async=False)
    read = read_options(name, options)
    made: Step[Any, Any, Any] | End[Any, Any]
    made = End(submitted, name, read, signature) if kind is Kind.NONE else Step(submitted, name, read, signature)
    made.job, made.source = job, repr(job)
    return made


def _params(first: BaseStep) -> ParamsCodec:
    try:
        return ParamsCodec(first.input_type)
    except Exception as error:
        raise DefinitionError(
            f"first step {first.name!r} takes {type_name(first.input_type)}, which cannot be a job's parameters; "
            "use a pydantic model, dataclass, TypedDict or plain JSON type"
        ) from error


def _check_chain(name: str, links: Links) -> None:
    if links.open:
        raise DefinitionError(f"job {name!r} has no end: {loose(links)}")
    if len(links.heads) != 1 or links.heads[0].conditions:
        heads = ", ".join(repr(links.steps[head.step].name) for head in links.heads)
        raise DefinitionError(f"job {name!r} needs one first step, which takes the parameters; it has {heads}")
    first = links.steps[0]
    if first.kind is Kind.REDUCTION:
        raise DefinitionError(f"job {name!r}: reduction {first.name!r} has no step before it")
    for each in links.steps:
        if each.takes_params and not accepts(each.params_type, first.input_type):
            raise DefinitionError(
                f"step {each.name!r} takes params of type {type_name(each.params_type)}, but the parameters are what the "
                f"first step {first.name!r} takes: {type_name(first.input_type)}. Give it a default, if it is a value of the step's own"
            )


def _nodes(name: str, links: Links, gated: bool, max_failed: float) -> tuple[Node, ...]:
    weights = _weights(name, links.steps)
    nodes: list[Node] = []
    for index, each in enumerate(links.steps):
        waits = index > 0 and (gated or each.options.gate or each.kind is Kind.REDUCTION)
        sources = {edge.source for edge in links.edges if edge.target == index}
        sources |= {a for a, b in links.order if b == index and waits}
        edges = sorted((edge for edge in links.edges if edge.source == index), key=lambda edge: edge.target)
        named = tuple(links.way(edge) for edge in edges)
        targets = tuple(dict.fromkeys(way.target for way in named))
        ways = named if len(named) > 1 or any(way.conditions for way in named) else ()
        runs_once = index == 0 or each.kind is Kind.REDUCTION
        budget = (0 if runs_once else max_failed) if each.options.max_failed is None else each.options.max_failed
        takes = each.takes_params or (each.may_take_params and accepts(each.params_type, links.steps[0].input_type))
        before, others = tuple(sorted(sources)), links.other_types(index)
        nodes.append(
            Node(index, each, before, targets, waits, weights[index], named, ways, budget, takes_params=takes, others=others)
        )  # fmt: skip
    return tuple(nodes)


def _weights(name: str, steps: Sequence[BaseStep]) -> list[float]:
    given = [each.options.weight for each in steps]
    spent = sum(weight for weight in given if weight is not None)
    free = given.count(None)
    if spent > 1 + 1e-9 or (free and spent >= 1):
        raise DefinitionError(f"job {name!r}: weights add up to {spent:g}; leave some weight for the steps without one")
    if not free:
        return [cast("float", weight) / spent for weight in given]
    return [(1 - spent) / free if weight is None else weight for weight in given]


def _shape(node: Node) -> Mapping[str, Any]:
    step = node.step
    return {
        "name": step.name,
        "kind": step.kind.value,
        "input": type_name(step.input_type),
        "output": type_name(step.signature.output_type),
        "gated": node.gated,
        "targets": list(node.targets),
    }
