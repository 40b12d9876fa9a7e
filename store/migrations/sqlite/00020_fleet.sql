-- +goose Up
-- Who of a fleet does what only one may do at a time. A row stays when the
-- lease is given back: its fence must not begin anew.
CREATE TABLE leases (
  key     TEXT PRIMARY KEY,
  owner   TEXT NOT NULL,
  fence   INTEGER NOT NULL,
  expires INTEGER NOT NULL, -- by the database's clock; 0: given back
  outcome BLOB NOT NULL   -- what the last owner said when it gave it back
) STRICT;

-- What other nodes should read again: the version rises with each change, in
-- the transaction that makes it.
CREATE TABLE changes (
  key     TEXT PRIMARY KEY,
  version INTEGER NOT NULL
) STRICT;
