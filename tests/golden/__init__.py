"""The sample manifest's plan and document, reviewed like code.

Regenerate with `.venv/bin/python -m tests.golden`.
"""
