"""The control API held to its own description: schemathesis asks it everything that openapi.json allows, and much that it does not."""
