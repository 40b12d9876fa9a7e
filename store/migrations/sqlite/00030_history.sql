-- +goose Up
-- A clear text that is NULL is odd (no UTF-8, a NUL, longer than 255 bytes): it
-- stands in the content alone.
CREATE TABLE flows (
  id            INTEGER PRIMARY KEY, -- block * 64 + 0…63
  uid           BLOB    NOT NULL,    -- flow.ID
  at            INTEGER NOT NULL,    -- the request's head was complete
  ended         INTEGER NOT NULL,
  sent          INTEGER NOT NULL,    -- the last sending began; 0: nothing was sent
  answered      INTEGER NOT NULL,    -- its answer's head was there; 0: none came
  tool          TEXT,
  identity      TEXT,
  listener      TEXT,
  host          TEXT,                -- of the request that was sent, without the port
  origin        TEXT,                -- where it went
  port          INTEGER NOT NULL,
  tls           INTEGER NOT NULL,
  method        TEXT,
  status        INTEGER,             -- NULL: no answer
  generation    INTEGER NOT NULL,
  state         TEXT    NOT NULL,    -- of the session, when the flow ended
  flags         INTEGER NOT NULL,    -- store.Flags
  node          TEXT    NOT NULL,
  request_size  INTEGER NOT NULL,    -- bytes, head and body as sent
  response_size INTEGER NOT NULL,
  content       BLOB    NOT NULL
) STRICT;
CREATE INDEX flows_at ON flows (at);

-- What a block of flows has of text, as keyed signatures; NULL: it is not known,
-- and the flows must be looked into.
CREATE TABLE blocks (
  block    INTEGER PRIMARY KEY,
  flows    INTEGER NOT NULL, -- that were written to it
  bytes    INTEGER NOT NULL, -- of their content
  request  BLOB,
  response BLOB
) STRICT;

CREATE TABLE bodies (
  id      BLOB    PRIMARY KEY, -- seal.Box.Sum
  size    INTEGER NOT NULL,
  bytes   INTEGER NOT NULL,    -- of content
  content BLOB    NOT NULL
) STRICT;

CREATE TABLE flow_bodies (
  flow INTEGER NOT NULL,
  body BLOB    NOT NULL REFERENCES bodies (id),
  PRIMARY KEY (flow, body)
) STRICT, WITHOUT ROWID;
CREATE INDEX flow_bodies_body ON flow_bodies (body);

-- Numbers that are handed out once.
CREATE TABLE numbers (
  name TEXT    PRIMARY KEY,
  next INTEGER NOT NULL
) STRICT;
INSERT INTO numbers (name, next) VALUES ('block', 1);
