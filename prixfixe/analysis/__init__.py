"""The comparison of runs, from their folders alone, without torch."""
