"""Logs, metrics, traces, alerts and the ledger of every execution (later parts move in here)."""
