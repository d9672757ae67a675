"""What every room needs: input files, text for terminals."""
