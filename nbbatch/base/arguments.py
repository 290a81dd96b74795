"""Arguments that do not exist, answered with the one that is meant: misspelt ones, and words of other libraries."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from functools import wraps
from inspect import signature
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_TAKEN: dict[str, tuple[str, ...]] = {}
"""Which arguments are taken by what; filled by `answering` and `taken_by` while the modules are loaded."""
_WORDS = {
    "max_attempts": "retries retry tries attempts max_retries max_tries max_retry num_retries retry_count retry_limit",
    "backoff": "delay retry_delay retry_delay_seconds retry_backoff retry_wait wait wait_time default_retry_delay jitter",
    "retry_on": "on autoretry_for retry_for retry_exceptions retry_if retry_condition_fn exceptions",
    "fail_on": "no_retry_on dont_autoretry_for giveup give_up_on throws fatal",
    "skip_on": "skip skip_exceptions skippable ignore ignore_errors",
    "max_skipped": "skip_limit max_skips",
    "max_failed": "max_failures failure_limit max_errors error_limit allowed_failures tolerance",
    "concurrency": "max_concurrency concurrency_limit max_parallel parallel parallelism max_running n_jobs",
    "rate": "rate_limit limiter throttle max_rate qps rps",
    "timeout": "timeout_seconds time_limit soft_time_limit max_time execution_timeout deadline",
    "gate": "barrier wait_for trigger_rule",
    "name": "task_name step_name job_name task_id id title",
    "description": "doc doc_md docs help",
    "executor": "pool backend scheduler cluster client runner task_runner processes threads",
    "workers": "max_workers n_workers num_workers worker_count pool_size",
    "version": "revision job_version",
    "fail_fast": "stop_on_error stop_on_failure abort_on_error abort_on_failure raise_on_error",
    "on_error": "on_failure on_fail on_failed on_exception on_failure_callback failure_callback error_callback errback",
    "on_complete": "on_success on_completion on_completed on_done on_finish on_end on_success_callback callback",
    "start_limit": "max_starts max_restarts restart_limit",
    "validate": "validator validation validators",
    "key": "idempotency_key unique_key run_id job_id run_name",
    "params": "parameters args kwargs inputs",
}
"""Our word → what others call it."""
_NOTES = {
    "max_attempts": "it counts the first attempt too",
    "workers": "concurrency= limits how many chunks of one step run at once",
    "executor": "nb.open(executor=…) is for all steps, and a step names one of nb.open(executors={…})",
    "cache": "outputs are stored with their run, and a run that is submitted again starts nothing that is done",
    "schedule": "nothing is scheduled here: submit from where schedules are kept (cron, the system's timer)",
    "depends_on": "the order of steps is what the chain says: a >> b",
}
_OTHERS = {
    "cache": "cache_key cache_key_fn cache_policy cache_expiration cached caching memoize memo persist_result",
    "schedule": "cron every interval start_date catchup",
    "depends_on": "after requires needs upstream upstream_tasks dependencies previous",
}
"""What there is no argument for; `_NOTES` says what there is."""
_MEANT = {word: ours for ours, words in {**_WORDS, **_OTHERS}.items() for word in words.split()}


def taken_by(owner: str, names: Iterable[str]) -> None:
    """Let it be known what takes arguments of these names."""
    _TAKEN[owner] = tuple(names)


def answering(owner: str, error: type[TypeError] = TypeError) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Have a function answer arguments it does not take with the one that is meant."""

    def wrapped(function: Callable[P, R]) -> Callable[P, R]:
        taken_by(owner, (name for name in signature(function).parameters if name != "self"))

        @wraps(function)
        def checked(*args: P.args, **given: P.kwargs) -> R:
            check_known(owner, given, _TAKEN[owner], error)
            return function(*args, **given)

        return checked

    return wrapped


def check_known(what: str, given: Iterable[str], known: Iterable[str], error: type[TypeError] = TypeError) -> None:
    """Raises the error for the first argument that is not taken, with the one that is meant, or may be.

    >>> check_known("step 'count'", ["max_attempt"], ["gate", "max_attempts"])
    Traceback (most recent call last):
    TypeError: step 'count' has no option max_attempt=; max_attempts= may be meant. There are gate, max_attempts
    >>> check_known("step 'count'", ["retries"], ["max_attempts"])
    Traceback (most recent call last):
    TypeError: step 'count' has no option retries=; max_attempts= is meant: it counts the first attempt too. There are max_attempts
    """
    options = sorted(known)
    for name in given:
        if name not in options:
            raise error(f"{what} has no option {name}={_answer(name, options)}. There are {', '.join(options)}")


def _answer(name: str, options: list[str]) -> str:
    ours = _MEANT.get(name, name)
    note = f": {_NOTES[ours]}" if ours in _NOTES else ""
    if ours in options:
        return f"; {ours}= is meant{note}"
    near = get_close_matches(name, options, 1)
    owner = next((owner for owner, names in _TAKEN.items() if ours in names), "")
    if owner and not get_close_matches(name, options, 1, cutoff=0.8):
        return f"; {owner}({ours}=…) takes it{note}"
    return f"; {near[0]}= may be meant" if near else note
