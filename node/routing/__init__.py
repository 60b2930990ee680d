"""Which studies are processed, with which weights, for which destinations and how urgently: the rules of a site."""
