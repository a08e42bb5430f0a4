"""What passes between the rooms: each kind of file and message has its one definition here.

Whoever writes a record and whoever reads it use the same class. Records hold values and small properties of these;
what is done with them is elsewhere.
"""
