"""Use cases: what people and programs ask of billing. Each declares what it needs of the world in ports.py."""
