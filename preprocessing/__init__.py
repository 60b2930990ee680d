"""From a DICOM series to network input, and from network output back to scanner space."""
