"""The result as DICOM: derived series that line up and cannot be mistaken for acquired ones."""
