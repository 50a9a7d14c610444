"""What the service, its clients and the driver of a job share: messages, states, the files of an attempt, and specs."""
