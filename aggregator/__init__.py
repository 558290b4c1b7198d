"""The minute: drain the store into the ledger, recover what it lost, cut overages, deliver, roll up. A process of its own."""
