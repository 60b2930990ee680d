"""The DICOM node: everything that knows of networks, studies, tables and people."""
