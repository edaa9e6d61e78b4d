"""The processes of the service: their socket, its connections, and workers that are started again."""
