"""Modules that the service, its clients and a job's driver share: messages, states, the files of an attempt, specs."""
