"""What tests are made of: time that is moved, and stores that run in memory or break on purpose.

Shipped with the product so that authors of objects can test theirs the same way. Nothing outside
tests imports this package.
"""
