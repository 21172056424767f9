"""The object core: one owner an object, turns, output gate, alarms. Knows no HTTP and no Redis."""
