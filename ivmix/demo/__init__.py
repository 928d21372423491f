"""`ivmix demo`: a page, for this machine alone, on which clips are drawn and compared."""
