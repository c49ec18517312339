"""Spell each option once, for all the commands that take it.

single.py   arguments and options by themselves: REF, NAME, --offline
bundles.py  dataclasses of options that belong together: plan, machine, server, files, output
unfold.py   let typer read a command that takes bundles
"""
