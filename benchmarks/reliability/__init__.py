"""What can go wrong with checkpoints and runs, done on purpose; each command exits with 1 if one is lost."""
