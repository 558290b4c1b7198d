"""What can be asked and done, whichever door it comes through: REST, GraphQL, the command line. One file a noun, one list of all."""
