"""A running sweep seen from another terminal, by nothing but what it leaves on the disk.

folder   one run's folder, read again only when a file of it has changed
frame    the study's folder -> a Frame: how much is done, what runs, what is best, what failed
picture  a Frame -> what rich draws, no larger than the terminal; and that once a second

No lock is taken: the sweep would believe that another process trains the run. Neither torch nor
pandas is imported.
"""
