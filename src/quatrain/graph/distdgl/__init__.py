"""The part that talks to DistDGL: partitions, servers, RPC, sampling and launch."""
