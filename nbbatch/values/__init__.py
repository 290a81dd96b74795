"""Values ↔ stored bytes: codecs, pages, parameters and attachments; never pickle."""
