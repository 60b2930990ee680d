"""The archive that stands for a PACS: Storage, Query/Retrieve, storage commitment, routing, and faults to order."""
