"""Run folders: what is read of them, and how much of it is believed."""
