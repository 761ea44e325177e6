"""The `treue` command: one module per subcommand."""
