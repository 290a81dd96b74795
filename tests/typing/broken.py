"""Chains that static checkers must reject: each line that says so is an error. Never run."""

import nbbatch as nb
from tests.typing.api import count, drop, either, end, find, last, report, size, sorting

find >> report  # error
count >> find  # error
nb.Job("endless", find >> count)  # error
nb.Job("twice ended", find >> count >> end >> end)  # error
nb.Job("params", find >> count >> report, version="2")  # error
end >> count  # error
report >> end  # error
either >> count  # error
nb.Job("reduction only", report)  # error
nb.Job("branch left open", either >> (count | end))  # error
find >> last  # error
sorting >> (count | nb.to(drop)) >> report  # error
nb.to(report, "text")  # error
find >> nb.choose(size, {"a": end})  # error
nb.Job("misspelt", find >> count >> report).on("after_job")  # error
nb.Job("typo", find >> count >> report, max_fail=1)  # error
nb.open("x.duckdb").run(1)  # error
nb.open("x.duckdb")[1]  # error
print(nb.task)  # error
