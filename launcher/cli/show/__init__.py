"""Print values, errors and progress, as text or JSON.

output.py         one command's output: value to stdout, everything else to stderr
progress.py       bars on a terminal, lines in a pipe, JSON lines for programs
printable.py      make text from anywhere safe for a terminal
json_text.py      values as JSON
tables.py         tables, lists and bars: what the modules below are made of
machine.py        the machine, for probe
model.py          a model's anatomy, for inspect
finding.py        whether it fits, as far as that is known
short_plan.py     a plan at a glance
memory_bars.py    the memories that a plan fills, as bars
plan_picture.py   a plan as a picture
svg.py            what pictures are drawn with
plan.py           a plan explained: its alternatives, its command line
fleet.py          a plan for several machines
cluster.py        the machines of a cluster
comparison.py     machines side by side
depth_picture.py  the same as curves of speed against depth
measured.py       measured speeds, for bench
tuned.py          what tuning found
vllm.py           a plan for vLLM
ledger.py         the bytes of a plan, place by place
checked.py        a checked line
router.py         a checked line of many models
stored_models.py  the models here, for ls
profiles.py       profiles, listed and in full
recommended.py    recommended models
searched.py       what the Hub found
engines.py        engines, listed and in full
deployments.py    deployments, for up and ps
gateway.py        what a gateway does, for ps --watch
history.py        the last loads
findings.py       what doctor found
"""
