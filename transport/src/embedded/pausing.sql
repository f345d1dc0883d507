-- Version 4 of the file: batches that are paused.
ALTER TABLE batch ADD COLUMN paused INTEGER NOT NULL DEFAULT 0;
