"""Devices: the (data, fsdp, tensor) mesh, the table of sharding rules, start-up and gathers of several processes."""
