"""Whether a prepared study is good enough: what headers add to the measures, the limits, the verdict, its record."""
