"""The Batch API: many questions as one file, for a server that asks less for those."""
