"""The compiled round: local training, round, evaluation, and the loop over chunks of rounds."""
