"""Who may call: API keys, usage plans, and the authorizer of consumers."""
