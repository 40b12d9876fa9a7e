-- +goose Up
CREATE TABLE state (
  kind    TEXT NOT NULL,
  owner   TEXT NOT NULL,
  name    TEXT NOT NULL,
  version INTEGER NOT NULL,
  fence   INTEGER NOT NULL,
  changed INTEGER NOT NULL,
  value   BLOB NOT NULL,
  PRIMARY KEY (kind, owner, name)
) STRICT, WITHOUT ROWID;
