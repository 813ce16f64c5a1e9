"""What tools/api-check is made of: a sandbox for ravelin, a forwarder to its socket, and schemathesis."""
