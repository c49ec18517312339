"""Spell each option once.

single.py   arguments and options by themselves: REF, NAME, --offline
bundles.py  dataclasses of options that belong together: plan, machine, engine, files, output
serving.py  of the commands that start a server or ask it
measuring.py  of the commands that measure
unfold.py   let typer read a command that takes bundles
complete.py  completion of models, machines, deployments, modes
configured.py  defaults of the config file
spell.py    options as they are typed, to print a command that works
"""
