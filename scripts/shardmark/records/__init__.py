"""The records that rooms exchange: the one definition of each kind of file and message.

Writers and readers of a record use the same class. Records hold values and small properties of them; the code that
works with them is elsewhere.
"""
