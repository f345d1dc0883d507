-- Version 1 of the file; `records.sql`, `allowances.sql`, `pausing.sql`, `suspects.sql` and `boot.sql` make the later ones. Moments are milliseconds since 1970, UTC, but for those of `boot.sql`. Ids are the 16 bytes of a UUID.

-- The queue. A message is in exactly one of `ready`, `delayed` and `loan`.
CREATE TABLE lane (
    id    INTEGER PRIMARY KEY,
    model TEXT NOT NULL,
    class TEXT NOT NULL,
    UNIQUE (model, class)
);
CREATE TABLE message (
    id   INTEGER PRIMARY KEY AUTOINCREMENT,
    lane INTEGER NOT NULL,
    job  BLOB NOT NULL,
    body BLOB NOT NULL
);
CREATE TABLE ready (
    lane    INTEGER NOT NULL,
    message INTEGER NOT NULL,
    PRIMARY KEY (lane, message)
) WITHOUT ROWID;
CREATE TABLE delayed (
    lane    INTEGER NOT NULL,
    due_ms  INTEGER NOT NULL,
    message INTEGER NOT NULL,
    PRIMARY KEY (lane, due_ms, message)
) WITHOUT ROWID;
CREATE TABLE session (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    expires_ms INTEGER NOT NULL
);
CREATE TABLE loan (
    message INTEGER PRIMARY KEY,
    session INTEGER NOT NULL,
    number  INTEGER NOT NULL
);
CREATE INDEX loan_session ON loan (session);

-- Batches. A row without a record is known by its jobs only: the store was wiped under them.
CREATE TABLE batch (
    n                 INTEGER PRIMARY KEY,
    id                BLOB NOT NULL UNIQUE,
    record            TEXT,
    state             TEXT NOT NULL DEFAULT 'open',
    fed_shard         INTEGER NOT NULL DEFAULT 0,
    fed_offset        INTEGER NOT NULL DEFAULT 0,
    total             INTEGER NOT NULL DEFAULT 0,
    fed               INTEGER NOT NULL DEFAULT 0,
    succeeded         INTEGER NOT NULL DEFAULT 0,
    filtered          INTEGER NOT NULL DEFAULT 0,
    failed            INTEGER NOT NULL DEFAULT 0,
    cancelled         INTEGER NOT NULL DEFAULT 0,
    expired           INTEGER NOT NULL DEFAULT 0,
    prompt_tokens     INTEGER NOT NULL DEFAULT 0,
    completion_tokens INTEGER NOT NULL DEFAULT 0,
    finished_ms       INTEGER,
    -- When its results may go: completion and retention.
    forget_ms         INTEGER
);
CREATE INDEX batch_open ON batch (n) WHERE state IN ('open', 'in_progress');
CREATE INDEX batch_forget ON batch (forget_ms) WHERE forget_ms IS NOT NULL;
CREATE TABLE shard (
    batch INTEGER NOT NULL,
    nth   INTEGER NOT NULL,
    items INTEGER NOT NULL,
    first INTEGER NOT NULL,
    lines TEXT NOT NULL,
    PRIMARY KEY (batch, nth)
) WITHOUT ROWID;

-- Jobs that somebody registered, began, cancelled or finished.
CREATE TABLE job (
    id        BLOB PRIMARY KEY,
    batch     INTEGER,
    item      INTEGER,
    custom_id TEXT,
    running   INTEGER NOT NULL DEFAULT 0,
    attempts  INTEGER NOT NULL DEFAULT 0,
    worker    TEXT,
    -- Its cancellation was asked for.
    cancel    INTEGER NOT NULL DEFAULT 0,
    -- `result.n`.
    result    INTEGER,
    -- The job that took its place.
    replaced  BLOB
) WITHOUT ROWID;
CREATE INDEX job_item ON job (batch, item) WHERE batch IS NOT NULL;
CREATE INDEX job_unfinished ON job (batch) WHERE batch IS NOT NULL AND result IS NULL;
CREATE TABLE registered (
    job    BLOB PRIMARY KEY,
    at_ms  INTEGER NOT NULL,
    record TEXT NOT NULL
);
CREATE INDEX registered_at ON registered (at_ms);
CREATE TABLE partial (
    job  BLOB PRIMARY KEY,
    text TEXT NOT NULL
);
CREATE TABLE result (
    -- Order of completion, of all jobs.
    n     INTEGER PRIMARY KEY AUTOINCREMENT,
    job   BLOB NOT NULL,
    batch INTEGER,
    body  TEXT NOT NULL,
    -- When it may go, for a job of no batch; others go with their batch.
    forget_ms INTEGER
);
CREATE INDEX result_batch ON result (batch, n) WHERE batch IS NOT NULL;
CREATE INDEX result_forget ON result (forget_ms) WHERE forget_ms IS NOT NULL;
CREATE TABLE dead_letter (
    n    INTEGER PRIMARY KEY AUTOINCREMENT,
    job  BLOB NOT NULL UNIQUE,
    body TEXT NOT NULL
);

-- Workers and elections.
CREATE TABLE worker (
    id         TEXT PRIMARY KEY,
    expires_ms INTEGER NOT NULL,
    body       TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE lease (
    name       TEXT PRIMARY KEY,
    holder     TEXT NOT NULL,
    token      INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL
) WITHOUT ROWID;
