"""The chaos run: a whole house under load, broken in one way after the other, and its books looked at after each.

`make chaos` is run.py. What each file is for:

    world.py   the house: Postgres, Valkey, `weighbridge up` with two workers, a service; and when it is well again, and at rest
    load.py    who calls meanwhile, what each saw, and who may have so many calls in flight
    streams.py server-sent events and WebSockets beside them
    books.py   what must hold afterwards: nothing lost, nothing doubled
    fault.py   what a fault is: the interface
    faults/    the faults, one file a family, named in its __init__
    report.py  the table in docs/reliability.md

A fault is a class (fault.py) with a name, `inject`, `undo`, and what must hold beyond the books. It is listed in its file's FAULTS.
"""
