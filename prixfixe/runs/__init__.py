"""Run folders: their files and what they hold."""
