"""The rate limiter: never more than L in any window of the stated length, decided in the owner's memory."""
