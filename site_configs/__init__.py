"""One module a machine; each has one function, site()."""
