"""Sends examples and captured requests, compares the responses and reports. It may use the client and the plan."""
