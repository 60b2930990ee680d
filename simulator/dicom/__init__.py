"""DICOM files as scanners write them: headers by vendor, one slice or one series per file."""
