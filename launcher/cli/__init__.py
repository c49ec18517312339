"""Read what is typed, and print what comes out.

main.py           the command `launcher`: parse, call, exit code
lazy_commands.py  the table of commands, each imported when it is typed
options/          the options, each spelled once
requests.py       from options to the requests that commands take
here.py           what a command works with beside its request
show/             what is printed
streams.py        stdin, stdout and stderr, closed or full or of few letters
grouped_help.py   help in groups, nothing cut
complete_hint.py  a command for every hint
explain_error.py  any exception as a sentence, a hint and an exit code
chat/             talk to a running deployment
probe.py          probe
recommend.py      recommend
models.py         models
search.py         search
inspect.py        inspect
plan.py           plan
vllm.py           --engine vllm of commands that plan
profiles.py       profiles list, profiles show
check.py          check
pull.py           pull
bench.py          bench
tune.py           tune
ls.py             ls
rm.py             rm
bundle.py         bundle
up.py             up
run.py            run
serve.py          serve
config.py         config show, config set, config path
connect.py        connect
cost.py           cost
cluster.py        cluster add, cluster ls, cluster drain, cluster leave; what other launchers ask for
keys.py           keys add, keys ls, keys rm
running/          the commands about what is up
doctor.py         doctor
help_topics.py    help, whose topics are the texts in topics/
engine.py         engine install, build, list, info, use, update, rollback, compare, rm
"""
