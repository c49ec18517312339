"""Serve every model of this machine behind one port, swapped by memory.

admission/  PURE: which models run and which requests wait
"""
