"""The one design of our HTML pages and plots."""
