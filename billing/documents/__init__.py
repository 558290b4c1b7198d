"""Documents that people are sent, drawn: the only importer of the PDF library."""
