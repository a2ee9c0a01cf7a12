"""Attacks a real server for minutes and checks that its promises hold: `make soak`. See docs/reliability.md."""
