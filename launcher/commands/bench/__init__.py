"""Measure planned models: `launcher bench`.

bench.py        the story: plan and reserve, measure in turns, keep
llama_bench.py  one run of llama-bench
through_api.py  one run of llama-server, timed by its client
running.py      a deployment that runs, as its clients see it
rounds.py       what was measured round by round, beside the forecast
baseline.py     the last measurement of the same line
compare.py      two measurements side by side, and the regression gate
report.py       what it returns, as a value and as JSON
export.py       a measurement as a row of published speeds
"""
