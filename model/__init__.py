"""The network of Bône et al. (ISBI 2021): architecture, training, weights and synthesis."""
