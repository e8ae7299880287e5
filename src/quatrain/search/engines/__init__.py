"""Search engines: each proposes the next network and learns from scores."""
