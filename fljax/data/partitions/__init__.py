"""Partitions: the clients' shares of a data set."""
