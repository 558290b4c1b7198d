"""Ways out to people: mail by SMTP."""
