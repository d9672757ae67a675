"""One module a command: `HELP`, `configure(parser)` and `run(arguments) -> exit code`.

Heavy imports stand inside `run`, so that `prixfixe --help` answers at once.
"""
