"""Versions in a folder or in a bucket: written aside, checked, published whole, pointed to; and what lies in them."""
