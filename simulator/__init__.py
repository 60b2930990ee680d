"""The stand-in scanner and PACS: anatomy, lesions, contrast physics, DICOM studies and an archive."""
