"""Carry out what is typed, one story a command. Nothing is printed here.

here.py           settings, sources, environment, and whom to ask and tell: given to every command
probe.py          this machine, a saved one, or one in a few words
inspect.py        from a REF to a model and its quants
engine.py         find and describe the engine
engine_build.py   build or install one where there is none
engine_install.py  an engine that somebody else has built
engine_choice.py  several engines: use, go back, remove, update
engine_pin.py     the engine that a model is to run with
engine_compare.py  two engines beside each other: flags, memory
engine_trial.py   an engine proves itself before it is used
search.py         what the Hub has, and what of it could fit
recommend.py      which models suit a machine and a purpose
plan.py           choose quant and placement: probe, inspect, search
offers.py         the quants that could be planned, open
plan_and_claim.py  the same, and reserve the memory before another launcher plans
compare_machines.py  one model on several machines
plan_fleet.py     one model on several machines together: replicas, or a split over RPC
cluster/          machines that ssh leads to, and models on them
bench/            measure planned models
tune/             find faster settings by trying them
tuned.py          settings that were found: keep them, plan with them
vllm/             plan for vLLM
measurements.py   what was measured: keep it, and use it in plans
short_server.py   a llama-server for as long as a block lasts
planned.py        the outcome of a plan request: command line, JSON, or the reason there is none
kind_flags.py     embedding, rerank and vision models start as such
companions.py     draft models and projectors: find, simulate, fetch
pull.py           bring exactly the planned files here
up/               plan, pull, start
foreground.py     the same in the foreground
load.py           the same in this process, for scripts
llama.py          llama-cpp-python on the engine's libraries
wishes.py         what a script wishes of a plan
claims.py         memory reserved for deployments, as the planner sees it
check.py          will exactly this command line fit
check_instead.py  what fits instead of it
check_router.py   a line that serves many models
check_together.py  which of them do not fit at once
lock.py           a plan in a file, started again exactly as it was
lock_match.py     match a lock with this machine: engine, devices, files
restart.py        the same server again
bundle/           a model and its engine in one file, for a machine without a network
install.py        a deployment, or the gateway, as a unit of systemd
export/           a server as text for elsewhere
doctor.py         what is wrong with this machine or install
"""
