"""Interfaces: how the server calls each kind of application."""
