"""What a machine may read of the agent over HTTP: `/metrics` for Prometheus, `/healthz` for whoever restarts things.

Nothing listens without a `[web]` table in the config, and then only on the loopback interface unless it says otherwise.
"""
