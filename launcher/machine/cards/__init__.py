"""List graphics cards: what their drivers report, and what their makers name. Pure.

card.py    one card
nvidia.py  GeForce, workstation, data centre and laptop parts since Maxwell
amd.py     Radeon and Instinct since Polaris, and APUs
intel.py   Arc, Arc Pro and integrated graphics
apple.py   the GPUs of Apple's M chips, by core count where it changes the bandwidth
"""
