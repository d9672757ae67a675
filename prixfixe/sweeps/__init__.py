"""Many runs: what is planned, where each runs, and what became of it."""
