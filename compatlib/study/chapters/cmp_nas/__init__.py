"""The chapter *CMP-NAS*."""
