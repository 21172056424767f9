"""The core of single-owner objects, and what the services share around it."""
