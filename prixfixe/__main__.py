"""`python -m prixfixe`. Python puts the current folder before all others; `prixfixe/__init__.py` has taken it away."""

from prixfixe.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
