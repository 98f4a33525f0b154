"""The verbs, their command line, and one YAML file per experiment."""
