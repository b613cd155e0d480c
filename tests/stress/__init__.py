"""Hard use: rubbish in, kills, full disks, other processes, long runs. `make hard` and `make fuzz` print one table."""
