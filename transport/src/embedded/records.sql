-- Version 2 of the file: records that producers keep, by their names.
CREATE TABLE record (
    collection TEXT NOT NULL,
    name       TEXT NOT NULL,
    body       TEXT NOT NULL,
    -- When it may go; without it, it stays until it is removed.
    expires_ms INTEGER,
    PRIMARY KEY (collection, name)
) WITHOUT ROWID;
CREATE INDEX record_expires ON record (expires_ms) WHERE expires_ms IS NOT NULL;
