"""Logs, alarms, the dashboard and the guard rail."""
