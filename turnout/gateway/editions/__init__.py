"""Going over to what the project's files say now, without a failed request."""
