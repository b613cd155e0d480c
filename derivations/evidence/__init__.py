"""Claims that are measured: intervals over seeds, verdicts by a fixed protocol, results that a killed run keeps."""
