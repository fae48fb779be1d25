"""The words that everything shares: data, models, likelihoods, the registry, errors."""
