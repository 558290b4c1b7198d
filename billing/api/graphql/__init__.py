"""GraphQL on control: the guide's schema, and a few tables in Hasura's words."""
