-- +goose Up
-- A clear text that is NULL is odd (no UTF-8, a NUL, longer than 255 bytes): it
-- stands in the content alone.
CREATE TABLE flows (
  id            BIGINT NOT NULL, -- block * 64 + 0…63
  uid           BYTEA  NOT NULL, -- flow.ID
  at            BIGINT NOT NULL, -- the request's head was complete
  ended         BIGINT NOT NULL,
  sent          BIGINT NOT NULL, -- the last sending began; 0: nothing was sent
  answered      BIGINT NOT NULL, -- its answer's head was there; 0: none came
  tool          TEXT,
  identity      TEXT,
  listener      TEXT,
  host          TEXT,            -- of the request that was sent, without the port
  origin        TEXT,            -- where it went
  port          BIGINT NOT NULL,
  tls           BIGINT NOT NULL,
  method        TEXT,
  status        BIGINT,          -- NULL: no answer
  generation    BIGINT NOT NULL,
  state         TEXT   NOT NULL, -- of the session, when the flow ended
  flags         BIGINT NOT NULL, -- store.Flags
  node          TEXT   NOT NULL,
  request_size  BIGINT NOT NULL, -- bytes, head and body as sent
  response_size BIGINT NOT NULL,
  content       BYTEA  NOT NULL,
  PRIMARY KEY (id, at)           -- a partitioned table's key has the column of the partitions
) PARTITION BY RANGE (at);
-- Weeks are made ahead by those who write; what fits none of them stays here.
CREATE TABLE flows_other PARTITION OF flows DEFAULT;
CREATE INDEX flows_at ON flows (at);
ALTER TABLE flows ALTER COLUMN content SET STORAGE EXTERNAL; -- it is compressed

-- What a block of flows has of text, as keyed signatures; NULL: it is not known,
-- and the flows must be looked into.
CREATE TABLE blocks (
  block    BIGINT PRIMARY KEY,
  flows    BIGINT NOT NULL, -- that were written to it
  bytes    BIGINT NOT NULL, -- of their content
  request  BYTEA,
  response BYTEA
);
ALTER TABLE blocks ALTER COLUMN request SET STORAGE EXTERNAL, ALTER COLUMN response SET STORAGE EXTERNAL;

CREATE TABLE bodies (
  id      BYTEA  PRIMARY KEY, -- seal.Box.Sum
  size    BIGINT NOT NULL,
  bytes   BIGINT NOT NULL,    -- of content
  content BYTEA  NOT NULL
);
ALTER TABLE bodies ALTER COLUMN content SET STORAGE EXTERNAL;

CREATE TABLE flow_bodies (
  flow BIGINT NOT NULL,
  body BYTEA  NOT NULL REFERENCES bodies (id),
  PRIMARY KEY (flow, body)
);
CREATE INDEX flow_bodies_body ON flow_bodies (body);

-- Numbers that are handed out once.
CREATE TABLE numbers (
  name TEXT   PRIMARY KEY,
  next BIGINT NOT NULL
);
INSERT INTO numbers (name, next) VALUES ('block', 1);
