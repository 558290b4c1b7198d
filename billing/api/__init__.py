"""The control server: usage and quotas over HTTP, the configuration's door, and the answers that gateways wait for."""
