"""One service in several processes: what the main one has of its own, and how workers ask it.

    main process    the home's lock, migrations, engines that Hanlin runs itself, limits, what dead workers left
                    └ `coordinator`, on a Unix socket ┐
    worker 1 … N    HTTP on the shared port, keys, servers elsewhere, their health, a journal and a ledger writer each

Each worker has one connection for short questions and for what it is told (`line`), and a further one for each call of
an engine (`engines`): so a slow reader holds up nobody else, and a hang-up is a closed connection.
"""
