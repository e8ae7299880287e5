"""One module per machine, each with one function site()."""
