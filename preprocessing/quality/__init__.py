"""How good a study's series and their preparation are, in numbers with a name and a unit. Verdicts are the node's."""
