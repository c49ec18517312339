"""How fast a plan will be: seconds for a stated turn, with a band. Pure; calibrated on published measurements."""
