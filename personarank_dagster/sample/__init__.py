"""Generated datasets, with tastes that personas can find."""
