"""Write the JSON Schemas: `python -m config.schema`."""

from . import FOLDER, schemas

for name, text in schemas().items():
    (FOLDER / name).write_text(text, encoding="utf-8")
