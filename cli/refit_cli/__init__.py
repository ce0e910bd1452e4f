"""The `refit` command."""
