"""The verbs of the command line that are more than a function call: options, progress, results in files."""
