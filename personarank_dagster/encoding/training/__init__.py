"""How an encoder learns: pairs, loss, steps, and the users that are held out."""
