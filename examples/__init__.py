"""Ordinary engine code to try fillpath on; nothing here mentions fillpath."""
