"""How an application of each kind is called."""
