-- Version 3 of the file: what was taken of allowances, by slot of their windows.
CREATE TABLE spent (
    allowance  TEXT NOT NULL,
    slot       INTEGER NOT NULL,
    amount     INTEGER NOT NULL,
    -- When nothing of it counts any more.
    expires_ms INTEGER NOT NULL,
    PRIMARY KEY (allowance, slot)
) WITHOUT ROWID;
CREATE INDEX spent_expires ON spent (expires_ms);
