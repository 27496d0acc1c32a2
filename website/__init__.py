"""The documentation's web site: pages that are made from the code, and how the site is built."""
