"""launcher.deployment.install.wait_until_ready under its old name, which running deployments have in their records and units."""

import runpy

if __name__ == "__main__":
    runpy.run_module("launcher.deployment.install.wait_until_ready", run_name="__main__")
