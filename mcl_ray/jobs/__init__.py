"""Messages, states, specs and attempts of jobs, which the service, its clients and the driver share."""
