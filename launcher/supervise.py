"""Run launcher.deployment.supervisor under its old name, for records and units of running deployments."""

import runpy

if __name__ == "__main__":
    runpy.run_module("launcher.deployment.supervisor", run_name="__main__")
