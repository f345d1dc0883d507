-- Version 6 of the file: moments of sessions, delays, workers and elections are milliseconds since the
-- machine started, which no change of its clock moves. They end with the start that they count from.
CREATE TABLE boot (id TEXT NOT NULL);
