"""Run wait_until_ready under the old name that records and units of running deployments have."""

import runpy

if __name__ == "__main__":
    runpy.run_module("launcher.deployment.install.wait_until_ready", run_name="__main__")
