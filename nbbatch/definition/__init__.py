"""Declaring jobs: steps, chains, the job. Plain values: nothing registers anywhere, cells run in any order.

    step ──┐
    step ──┼── >>, | ──▶ chain ──▶ Job (nodes in topological order)

Everything that can be wrong is wrong in the cell that says it: types that do not meet, names used twice, a chain
without an end. Static checkers see the same through the type parameters: ``nb.Job[Params, Report]``.
"""

from nbbatch.code.signature import Kind
from nbbatch.definition.chain import choose, to
from nbbatch.definition.decorator import step
from nbbatch.definition.job_definition import JobDefinition, Node
from nbbatch.definition.options import Backoff, Options, judge
from nbbatch.definition.routing import To

__all__ = [
    "Backoff",
    "JobDefinition",
    "Kind",
    "Node",
    "Options",
    "To",
    "choose",
    "judge",
    "step",
    "to",
]
