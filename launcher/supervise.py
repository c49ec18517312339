"""launcher.deployment.supervisor under its old name, which running deployments have in their records and units."""

import runpy

if __name__ == "__main__":
    runpy.run_module("launcher.deployment.supervisor", run_name="__main__")
