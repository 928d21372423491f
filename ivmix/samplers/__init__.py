"""What a run does, as data: every sampler and its options, read from a call, a command line or a record."""
