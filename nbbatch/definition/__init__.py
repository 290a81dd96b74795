"""Declaring jobs: steps, chains, the job. Plain values: nothing registers anywhere, cells run in any order.

    step ──┐
    step ──┼── >>, | ──▶ chain ──▶ Job (nodes in topological order)

Everything that can be wrong is wrong in the cell that says it: types that do not meet, names used twice, a chain
without an end. Static checkers see the same through the type parameters: ``Job[Params, Report]``.
"""

from nbbatch.definition.chain import choose, to
from nbbatch.definition.decorator import step
from nbbatch.definition.job import Job, Node
from nbbatch.definition.options import Backoff, Options, retryable
from nbbatch.definition.routing import To
from nbbatch.signature import Kind

__all__ = ["Backoff", "Job", "Kind", "Node", "Options", "To", "choose", "retryable", "step", "to"]
