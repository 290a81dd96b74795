"""Chains that static checkers must reject: each line that says so is an error. Never run."""

import nbbatch as nb
from tests.typing.api import count, end, find, report

find >> report  # error
count >> find  # error
nb.Job("endless", find >> count)  # error
nb.Job("twice ended", find >> count >> end >> end)  # error
nb.Job("params", find >> count >> report, version="2")  # error
