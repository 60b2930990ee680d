"""One SOP instance as it arrives: what its header says, without its pixels."""
