-- Version 5 of the file: on which jobs workers were lost.
ALTER TABLE job ADD COLUMN lost INTEGER NOT NULL DEFAULT 0;
-- The attempt is over, and its worker lives.
ALTER TABLE job ADD COLUMN ended INTEGER NOT NULL DEFAULT 0;
